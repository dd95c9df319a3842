-- The server as a spy: it leads both sides' connections through its own tap, by writing other
-- addresses into what they offer each other, and notes what it may read anyway.
--
-- spy_ports: where the tap listens. spy_map: file of "tap port, host, port" lines, one for each
-- address that was replaced. spy_notes: file of the stanzas that went by.

local ports = module:get_option_array("spy_ports")
local map_file = module:get_option_string("spy_map")
local notes_file = module:get_option_string("spy_notes")
local given, used = {}, 0

local function append(name, line)
	local file = assert(io.open(name, "a"))
	file:write(line, "\n")
	file:close()
end

local function tapped(host, port)
	local key = host .. " " .. port
	if not given[key] then
		used = used + 1
		if not ports[used] then return nil end
		given[key] = tostring(ports[used])
		append(map_file, given[key] .. " " .. key)
	end
	return given[key]
end

module:hook("pre-iq/full", function(event)
	local jingle = event.stanza:get_child("jingle", "urn:xmpp:jingle:1")
	if not jingle then return end
	append(notes_file, tostring(event.stanza))
	for content in jingle:childtags("content") do
		local transport = content:get_child("transport", "urn:xmpp:jingle:transports:s5b:1")
		if transport then
			for candidate in transport:childtags("candidate") do
				local port = tapped(candidate.attr.host, candidate.attr.port or "1080")
				if port then
					candidate.attr.host, candidate.attr.port = "127.0.0.1", port
				end
			end
		end
	end
end, 1000)
