-- A clock that rings once.

local uv = vim.uv or vim.loop

--- Have `action()` called after so many seconds. Returns what stops it; twice is no error.
return function(seconds, action)
  local timer = uv.new_timer()
  local function stop()
    if not timer:is_closing() then
      timer:close()
    end
  end
  timer:start(math.max(0, math.floor(seconds * 1000)), 0, function()
    stop()
    action()
  end)
  return stop
end
