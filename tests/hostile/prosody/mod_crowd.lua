-- Many people without their programs. On a host: all contacts of whoever comes online are there,
-- each with a picture in its vCard (XEP-0153). On a component: rooms full of people.

local st = require "util.stanza";
local jid = require "util.jid";
local sha1 = require "util.hashes".sha1;
local base64 = require "util.encodings".base64;

local DISCO = "http://jabber.org/protocol/disco#info";
local MUC = "http://jabber.org/protocol/muc";

local function picture_of(name)
	-- What comes after the end of a picture does not matter to anybody who shows it.
	return base64.decode(module:get_option_string("crowd_picture", "")) .. name;
end

local function is_in_crowd(address)
	local node = jid.split(address);
	return node ~= nil and node:find("^friend%d+$") ~= nil;
end

local function host()
	module:hook("presence/initial", function (event)
		local session = event.origin;
		for contact in pairs(session.roster) do
			if contact and is_in_crowd(contact) then
				session.send(st.presence({ from = contact .. "/home", to = session.full_jid })
					:tag("show"):text("away"):up()
					:tag("status"):text("I am " .. jid.node(contact)):up()
					:tag("x", { xmlns = "vcard-temp:x:update" })
						:tag("photo"):text(sha1(picture_of(jid.node(contact)), true)):up():up());
			end
		end
	end, -100);

	-- Nobody is there who could answer.
	module:hook("presence/bare", function (event)
		if is_in_crowd(event.stanza.attr.to) then
			return true;
		end
	end, 1000);

	module:hook("iq/bare/vcard-temp:vCard", function (event)
		local stanza = event.stanza;
		if stanza.attr.type == "get" and is_in_crowd(stanza.attr.to) then
			event.origin.send(st.reply(stanza):tag("vCard", { xmlns = "vcard-temp" })
				:tag("PHOTO"):tag("TYPE"):text("image/png"):up()
				:tag("BINVAL"):text(base64.encode(picture_of(jid.node(stanza.attr.to)))):up():up());
			return true;
		end
	end, 1000);
end

local function occupant(room, nick, to, own)
	local presence = st.presence({ from = room .. "/" .. nick, to = to })
		:tag("x", { xmlns = MUC .. "#user" })
			:tag("item", { affiliation = "member", role = "participant" }):up();
	if own then
		presence:tag("status", { code = "110" }):up();
	end
	return presence;
end

local function rooms()
	local size = module:get_option_number("crowd_size", 200);

	module:hook("presence/full", function (event)
		local stanza = event.stanza;
		local room, nick = jid.bare(stanza.attr.to), jid.resource(stanza.attr.to);
		if stanza.attr.type == "unavailable" then
			local gone = occupant(room, nick, stanza.attr.from, true);
			gone.attr.type = "unavailable";
			module:send(gone);
		elseif stanza:get_child("x", MUC) then
			for number = 2, size do
				module:send(occupant(room, "nick" .. number, stanza.attr.from));
			end
			module:send(occupant(room, nick, stanza.attr.from, true));
			module:send(st.message({ from = room, to = stanza.attr.from, type = "groupchat" })
				:tag("subject"):text("All about " .. room):up());
		end
		return true;
	end, 1000);

	module:hook("iq-get/bare/" .. DISCO .. ":query", function (event)
		event.origin.send(st.reply(event.stanza):tag("query", { xmlns = DISCO })
			:tag("identity", { category = "conference", type = "text", name = "Crowd" }):up()
			:tag("feature", { var = MUC }):up());
		return true;
	end);
end

if module:get_host_type() == "component" then
	rooms();
else
	host();
end
