-- Bytes of a test in a client's stream, past everything that Prosody does with stanzas: what it
-- would never send. One line to the port on loopback is "<user> <file>": what is in the file goes
-- to all sessions of that user, once for each line. The answer is the number of sessions.

local server = require "net.server";

local port = assert(module:get_option_number("raw_port"), "raw_port is not set");

local listener = {};
local buffers = {};

local function send(user, path)
	local file = assert(io.open(path, "rb"));
	local data = file:read("*a");
	file:close();
	local count = 0;
	for _, session in pairs((prosody.hosts[module.host].sessions[user] or {}).sessions or {}) do
		session.conn:write(data);
		count = count + 1;
	end
	return count;
end

function listener.onincoming(conn, data)
	local buffer = (buffers[conn] or "") .. data;
	for line in buffer:gmatch("([^\n]*)\n") do
		conn:write(tostring(send(line:match("^(%S+) (.+)$"))) .. "\n");
	end
	buffers[conn] = buffer:match("[^\n]*$");
end

function listener.ondisconnect(conn)
	buffers[conn] = nil;
end

local handle;

function module.load()
	handle = assert(server.listen("127.0.0.1", port, listener));
end

function module.unload()
	handle:close();
end
