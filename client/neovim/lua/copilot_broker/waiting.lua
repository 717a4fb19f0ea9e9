-- Waiting, or not. What takes time is a function `start(done)` that has `done(err, value)` called
-- once and returns what takes it back.

local after = require('copilot_broker.timer')
local errors = require('copilot_broker.errors')
local limits = require('copilot_broker.limits')

local M = {}

--- Run it. With a callback that is called later, between two events of the editor:
--- `callback(err, value)`, and what takes it back is returned. Without one, wait: `value, err`.
--- Ctrl-C takes it back.
function M.run(start, callback)
  if callback then
    return start(vim.schedule_wrap(callback))
  end
  local finished, err, value
  local cancel = start(function(...)
    finished, err, value = true, ...
  end)
  local interrupted = false
  while not (finished or interrupted) do
    -- a slice at a time: Neovim 0.7 tells of Ctrl-C only at the end of one
    local _, why = vim.wait(limits.WAIT_SLICE * 1000, function()
      return finished
    end, 20)
    interrupted = why == -2
  end
  if not finished then
    cancel()
    local class = errors.ErrorClass.TEMPORARY
    return nil, errors.failure(class, 'interrupted', 'it was interrupted', 'Ask again')
  elseif err then
    return nil, err
  end
  return value
end

--- What fails at once.
function M.refused(err)
  return function(done)
    done(err)
    return function() end
  end
end

--- Turn it into one that is over after `seconds`, with the error that `late()` makes.
function M.within(seconds, late, start)
  return function(done)
    local stop_timer, cancel, over
    -- whether this is the first end of it
    local function settle()
      if over then
        return false
      end
      over = true
      stop_timer()
      return true
    end
    stop_timer = after(seconds, function()
      if settle() then
        cancel()
        done(late())
      end
    end)
    cancel = start(function(...)
      if settle() then
        done(...)
      end
    end)
    return function()
      if settle() then
        cancel()
      end
    end
  end
end

return M
