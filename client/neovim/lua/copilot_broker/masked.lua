-- A table that shows `shown`; what is in `kept` can be asked for and is never shown, copied or sent
-- as JSON. `name` is how it is printed.

return function(shown, kept, name, methods)
  return setmetatable(shown, {
    __index = function(_, key)
      local method = methods and methods[key]
      if method ~= nil then
        return method
      end
      return kept[key]
    end,
    __tostring = function()
      return name
    end,
  })
end
