-- What a decoded value is. On the wire and in JSON "nothing" is `vim.NIL`, which is true in Lua.

local M = {}

local NIL = vim.NIL

M.is_list = vim.islist or vim.tbl_islist

--- The value, or nil where there is nothing.
function M.given(value)
  if value ~= NIL then
    return value
  end
end

--- As text, `default` where there is nothing.
function M.text_or(value, default)
  return (value == nil or value == NIL) and default or tostring(value)
end

--- The value where it is a number, else nil.
function M.number_in(value)
  return type(value) == 'number' and value or nil
end

--- Whether it is a map; an empty table may be one.
function M.is_map(value)
  return type(value) == 'table' and (next(value) == nil or not M.is_list(value))
end

function M.is_count(value)
  return type(value) == 'number' and value >= 0 and value % 1 == 0
end

return M
