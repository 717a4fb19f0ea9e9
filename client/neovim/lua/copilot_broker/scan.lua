-- Where a message ends, told from its bytes before anything is decoded (MessagePack spec,
-- "Formats"). A claim of 1 GB, or a tower of arrays, is refused at its header.

local breach = require('copilot_broker.errors').breach
local limits = require('copilot_broker.limits')

-- Per type byte: bytes of the length field, size without one, payload bytes and values per length.
local FORMATS = {}

local function put(from, to, form)
  for byte = from, to do
    FORMATS[byte] = form(byte - from)
  end
end

local function single()
  return { 0, 0, 1, 0 }
end

put(0x00, 0x7f, single) -- small integers
put(0xe0, 0xff, single)
put(0xc0, 0xc0, single) -- nil
put(0xc2, 0xc3, single) -- false, true
put(0x80, 0x8f, function(size) return { 0, size, 0, 2 } end) -- fixmap
put(0x90, 0x9f, function(size) return { 0, size, 0, 1 } end) -- fixarray
put(0xa0, 0xbf, function(size) return { 0, size, 1, 0 } end) -- fixstr
put(0xc4, 0xc6, function(power) return { 2 ^ power, 0, 1, 0 } end) -- bin
put(0xca, 0xcb, function(power) return { 0, 4 * 2 ^ power, 1, 0 } end) -- float, double
put(0xcc, 0xcf, function(power) return { 0, 2 ^ power, 1, 0 } end) -- uint
put(0xd0, 0xd3, function(power) return { 0, 2 ^ power, 1, 0 } end) -- int
put(0xd9, 0xdb, function(power) return { 2 ^ power, 0, 1, 0 } end) -- str
put(0xdc, 0xdd, function(power) return { 2 * 2 ^ power, 0, 0, 1 } end) -- array
put(0xde, 0xdf, function(power) return { 2 * 2 ^ power, 0, 0, 2 } end) -- map
-- 0xc1 is never used; the extension types have no place on this wire

--- The walk through one message; `find_end` is called again whenever bytes were added.
local Scan = {}
Scan.__index = Scan

function Scan.new()
  return setmetatable({
    position = 0, -- the message has at least so many bytes
    items = 0,
    lacking = {}, -- per open container: values still to come
  }, Scan)
end

--- Walk on from where it stopped. Returns where the message ends, nil while bytes are missing.
--- Raises an error of the protocol.
function Scan:find_end(buffer)
  local filled = #buffer
  while self.position == 0 or #self.lacking > 0 do
    if self.position >= filled then
      return nil
    end
    local byte = buffer:byte(self.position + 1)
    local form = FORMATS[byte]
    if form == nil then
      breach('bad_type', ('type byte %#x is not used'):format(byte))
    elseif self.position == 0 and form[4] ~= 1 then
      breach('not_a_message', 'a message is an array (MessagePack-RPC)')
    end
    local start, size = self.position + 1 + form[1], form[2]
    if start > filled then
      return nil
    end
    for at = self.position + 2, start do
      size = size * 256 + buffer:byte(at)
    end
    self.position = start + size * form[3]
    if self.position > limits.MAX_FRAME then
      breach('frame_too_large', ('more than %d bytes'):format(limits.MAX_FRAME))
    end
    self:count(size * form[4])
  end
  return self.position <= filled and self.position or nil
end

--- One value is there, and so many values follow in it.
function Scan:count(values)
  local lacking = self.lacking
  if #lacking > 0 then
    lacking[#lacking] = lacking[#lacking] - 1
  end
  if values > 0 then
    self.items = self.items + values
    if self.items > limits.MAX_ITEMS then
      breach('too_many_items', ('more than %d values'):format(limits.MAX_ITEMS))
    elseif #lacking == limits.MAX_DEPTH then
      breach('too_deep', ('nested deeper than %d'):format(limits.MAX_DEPTH))
    end
    table.insert(lacking, values)
  end
  while lacking[#lacking] == 0 do
    table.remove(lacking)
  end
end

return Scan
