-- The connections of a client: one that calls share, and those that streams and completions have
-- for themselves. Each is opened when it is needed.

local connect = require('copilot_broker.dial')
local address = require('copilot_broker.address')
local connection_lost = require('copilot_broker.errors').connection_lost

local Links = {}
Links.__index = Links

--- `path` may be nil: the usual one is looked up each time. `name` is told to the broker.
function Links.new(path, name)
  return setmetatable({
    path = path,
    name = name,
    link = nil, -- the one that is shared
    opening = nil, -- while it is being opened: who waits, and what takes it back
    apart = {}, -- link → what to close: itself, or the stream on it
  }, Links)
end

function Links:introduction()
  return { protocol = 1, client = self.name }
end

--- A connection: `done(err, link)`; `greet` says hello even without a name. Returns what takes it back.
function Links:open(greet, done)
  local path, err = self.path, nil
  if not path then
    path, err = address.socket_path()
  end
  if err then
    done(err)
    return function() end
  end
  return connect(path, function(problem, link)
    if link and (greet or self.name) then
      -- goes out with the first request; its answer changes nothing
      link:ask('broker.hello', self:introduction(), function() end)
    end
    done(problem, link)
  end)
end

--- The connection that calls share: `done(err, link)`. Returns what takes it back; when nobody
--- waits for it any more, it is not opened.
function Links:shared(done)
  if self.link and not self.link.lost then
    done(nil, self.link)
    return function() end
  end
  local opening = self.opening
  if opening then
    opening.waits[done] = true
  else
    opening = { waits = { [done] = true } }
    self.opening = opening
    opening.cancel = self:open(false, function(err, link)
      self.opening, self.link = nil, link
      for wait in pairs(opening.waits) do
        wait(err, link)
      end
    end)
  end
  return function()
    opening.waits[done] = nil
    if self.opening == opening and next(opening.waits) == nil then
      self.opening = nil
      opening.cancel()
    end
  end
end

--- Have `what` closed with the others, for as long as its link is there.
function Links:keep(link, what)
  self.apart[link] = what
  link.on_lost = function()
    self.apart[link] = nil
  end
end

--- Close all; they can be opened again.
function Links:close()
  for _, what in pairs(vim.tbl_extend('force', {}, self.apart)) do
    what:close()
  end
  local opening, link = self.opening, self.link
  self.opening, self.link = nil, nil
  if opening then
    opening.cancel()
    for wait in pairs(opening.waits) do
      wait(connection_lost())
    end
  end
  if link then
    link:close()
  end
end

return Links
