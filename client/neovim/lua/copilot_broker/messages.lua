-- The messages of MessagePack-RPC, and the only place that encodes and decodes them. Only what
-- scan.lua has walked may be decoded: depth and counts are bounded there.
--
--   request       [0, msgid, method, [params]]
--   response      [1, msgid, error, result]
--   notification  [2, method, [params]]

local errors = require('copilot_broker.errors')
local values = require('copilot_broker.values')

local M = {}

local pack, unpack_message = vim.mpack.encode, vim.mpack.decode

M.MSGIDS = 2 ^ 32 -- msgid is an unsigned 32-bit number

--- Bytes of a string of any bytes: Neovim's encoder would call it text.
local function as_bin(bytes)
  local size = #bytes
  if size < 2 ^ 8 then
    return '\xc4' .. string.char(size) .. bytes
  end
  local length = {}
  for shift = size < 2 ^ 16 and 1 or 3, 0, -1 do
    table.insert(length, string.char(math.floor(size / 256 ^ shift) % 256))
  end
  return (size < 2 ^ 16 and '\xc5' or '\xc6') .. table.concat(length) .. bytes
end

--- The bytes of a request, or `nil, err`.
function M.request(msgid, method, params)
  local parts = {}
  for name, value in pairs(params) do
    if value ~= vim.NIL then
      local good, packed = pcall(name == 'body' and as_bin or pack, value)
      if not good then
        local message = 'a message holds what MessagePack cannot say'
        return nil, errors.failure(errors.ErrorClass.USAGE, 'not_encodable', message)
      end
      table.insert(parts, pack(name) .. packed)
    end
  end
  local head = '\x94\x00' .. pack(msgid) .. pack(method) .. '\x91' .. string.char(0x80 + #parts)
  return head .. table.concat(parts)
end

function M.notification(method, params)
  return pack({ 2, method, { params } })
end

--- What a chunk takes from its stream's credit: bytes by number, else the size it has on the wire.
--- Lua does not tell 60.0 from 60, so a map is not encoded again: the message's size less what is
--- around the chunk is the same number.
function M.cost_of(params, size)
  if type(params.chunk) == 'string' then
    return #params.chunk
  end
  local around = { stream = params.stream, seq = params.seq, chunk = vim.NIL }
  return size - #M.notification('stream.data', around) + 1
end

--- Either `{ msgid, err, result }` or `{ method, params }`; params are nil in a shape we do not know.
--- Raises an error of the protocol.
function M.decode(frame)
  local good, message = pcall(unpack_message, frame)
  if not good then
    errors.breach('not_a_message', 'odd keys')
  end
  local kind, second, third = message[1], message[2], message[3]
  if kind == 1 and #message == 4 and values.is_count(second) and second < M.MSGIDS then
    return { msgid = second, err = values.given(third), result = message[4] }
  elseif kind == 2 and #message == 3 and type(second) == 'string' then
    local params = type(third) == 'table' and third[1]
    return { method = second, params = type(params) == 'table' and params or nil }
  elseif kind == 0 then
    errors.breach('wrong_direction', 'this side never sends that')
  end
  errors.breach('not_a_message', 'neither request nor response nor notification')
end

return M
