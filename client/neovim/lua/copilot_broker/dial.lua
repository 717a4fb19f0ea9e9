-- Connecting, once what is there has been looked at.

local address = require('copilot_broker.address')
local after = require('copilot_broker.timer')
local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')
local Link = require('copilot_broker.link')

local uv = vim.uv or vim.loop

--- Connect; `callback(err, link)`. Returns what takes it back. A full queue is waited for.
return function(path, callback)
  local pipe, stop_pause, over
  local function try()
    local err = address.untrusted(path)
    if err then
      return callback(err)
    end
    pipe = uv.new_pipe(false)
    pipe:connect(path, function(problem)
      if over then
        return
      elseif problem == nil then
        return callback(nil, Link.new(pipe))
      end
      pipe:close()
      if problem:match('EAGAIN') then
        stop_pause = after(limits.BUSY_PAUSE, try)
        return
      end
      local message = ('nobody answers at %s (%s)'):format(path, problem)
      callback(errors.unreachable('not_running', message))
    end)
  end
  try()
  return function()
    over = true
    if stop_pause then
      stop_pause()
    end
    if pipe and not pipe:is_closing() then
      pipe:close()
    end
  end
end
