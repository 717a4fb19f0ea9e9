-- How an answer is read: each gives `read(result)`, which returns `value, err`.

local errors = require('copilot_broker.errors')
local values = require('copilot_broker.values')

local M = {}

--- The answer is a map.
function M.map_of(method)
  return function(result)
    if not values.is_map(result) then
      return nil, errors.bad_answer('the answer to ' .. method .. ' is no map')
    end
    return result
  end
end

--- What the map holds under `key`, of that Lua type.
function M.value_of(method, key, kind)
  return function(result)
    local found = type(result) == 'table' and result[key]
    if type(found) ~= kind then
      return nil, errors.bad_answer('the answer to ' .. method .. ' holds no ' .. key)
    end
    return found
  end
end

--- Whether the map says so under `key`.
function M.flag_of(method, key)
  local map_from = M.map_of(method)
  return function(result)
    local found, err = map_from(result)
    if err then
      return nil, err
    end
    return found[key] == true
  end
end

--- Nothing but that it was done.
function M.done()
  return true
end

return M
