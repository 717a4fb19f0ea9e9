-- A call's arguments: what the method cannot do without, a table of options, a function.

--- Split them into parameters and callback. `method` has `needed` and `options`, which are names,
--- and `defaults`. Raises, on the caller's line, for an option that is not there.
return function(method, ...)
  local needed, options = method.needed or {}, method.options or {}
  local given, params = { ... }, vim.deepcopy(method.defaults or {})
  for at, name in ipairs(needed) do
    params[name] = given[at]
  end
  local named, callback = given[#needed + 1], given[#needed + 2]
  if type(named) == 'function' then
    named, callback = nil, named
  end
  for name, value in pairs(named or {}) do
    if not vim.tbl_contains(options, name) then
      error(('no such option: %s; there are: %s'):format(name, table.concat(options, ', ')), 3)
    end
    params[name] = value
  end
  return params, callback
end
