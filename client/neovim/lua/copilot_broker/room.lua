-- No more than so many at once; whoever comes later waits in line.

local Room = {}
Room.__index = Room

function Room.new(places)
  return setmetatable({ free = places, line = {} }, Room)
end

--- Have `go()` called, now or when there is a place. It must `leave` at last.
function Room:enter(go)
  if self.free > 0 then
    self.free = self.free - 1
    go()
  else
    table.insert(self.line, go)
  end
end

function Room:leave()
  local following = table.remove(self.line, 1)
  if following then
    following()
  else
    self.free = self.free + 1
  end
end

--- Take it out of the line; false where it is not in it.
function Room:forget(go)
  for at, waiting in ipairs(self.line) do
    if waiting == go then
      table.remove(self.line, at)
      return true
    end
  end
  return false
end

return Room
