-- A server that can misbehave: every stanza of the kinds asked for that goes from one local user to
-- another is taken before delivery and sent to a controller on loopback; what the controller sends
-- is delivered in its place. The controller is tests/hostile/server.py.
--
-- Both directions speak netstrings, each with one stanza as XML.

local server = require "net.server";
local st = require "util.stanza";
local jid = require "util.jid";
local xml = require "util.xml";

local port = assert(module:get_option_number("hostile_port"), "hostile_port is not set");
local kinds = module:get_option_set("hostile_kinds", { "iq" });

-- Longer than any stanza that a test sends; a mistake in framing shows at once.
local max_length = 1024 * 1024;

local injected = {}; -- stanza table => true, while it is on its way
setmetatable(injected, { __mode = "k" });

local controller;

local function inject(text)
	local stanza, problem = xml.parse(text);
	if not stanza then
		module:log("error", "the controller sent what is not XML: %s", problem);
		return;
	end
	-- Whoever it claims to come from: errors that the server itself makes go there.
	local origin = prosody.full_sessions[stanza.attr.from] or prosody.hosts[module.host];
	injected[stanza] = true;
	-- As if it had just come in, so that everything else that looks at stanzas still does.
	module:log("debug", "delivering %s", stanza:top_tag());
	if origin.full_jid then
		prosody.core_post_stanza(origin, stanza, true);
	else
		prosody.core_post_stanza(origin, stanza);
	end
end

local listener = {};
local buffer = "";

function listener.onincoming(_, data)
	buffer = buffer .. data;
	while true do
		local length, start = buffer:match("^(%d+):()");
		if not length then
			return;
		end
		length = tonumber(length);
		assert(length <= max_length, "a stanza that long cannot be meant");
		if #buffer < start + length then
			return;
		end
		local text = buffer:sub(start, start + length - 1);
		assert(buffer:sub(start + length, start + length) == ",", "not a netstring");
		buffer = buffer:sub(start + length + 1);
		inject(text);
	end
end

function listener.ondisconnect()
	module:log("error", "the controller is gone, nothing is delivered any more");
	controller = nil;
end

local function between_users(stanza)
	local from, to = stanza.attr.from, stanza.attr.to;
	if not from or not to then
		return false;
	end
	local from_node, from_host = jid.split(from);
	local to_node, to_host = jid.split(to);
	if not from_node or not to_node or from_node == to_node then
		return false;
	end
	return from_host == module.host and to_host == module.host;
end

local function take(event)
	local stanza = event.stanza;
	if injected[stanza] or not between_users(stanza) then
		return;
	end
	if not controller then
		module:log("error", "without a controller %s is lost", stanza:top_tag());
		return true;
	end
	local text = tostring(stanza);
	controller:write(#text .. ":" .. text .. ",");
	return true;
end

-- Before all other modules: what they do with a stanza they do when it is delivered.
local first = 1000;

for kind in kinds do
	module:hook("pre-" .. kind .. "/full", take, first);
	module:hook("pre-" .. kind .. "/bare", take, first);
end

function module.load()
	controller = assert(server.addclient("127.0.0.1", port, listener, "*a"));
end

function module.unload()
	if controller then
		controller:close();
	end
end
