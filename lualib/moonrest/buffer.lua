-- Reads from a socket in large pieces, for protocols whose messages are small. What is read too much waits here, so a
-- connection may only be shared when nothing does.
local setmetatable = setmetatable
local sub = string.sub

local M = {}
local mt = { __index = M }

-- The most that is asked for at a time; from half of it on, what is missing is read as one.
local PIECE = 65536

function M.new(sock)
    return setmetatable({ sock = sock, data = "", at = 1 }, mt)
end

function M.clear(self)
    self.data, self.at = "", 1
end

function M.is_empty(self)
    return self.at > #self.data
end

-- Makes sure that `count` bytes from `at` on are in `data`.
function M.ensure(self, count)
    local data, at = self.data, self.at
    local missing = count - (#data - at + 1)
    if missing <= 0 then
        return true
    end
    local sock = self.sock
    data = sub(data, at)
    self.data, self.at = data, 1
    if missing > PIECE / 2 or not sock.receiveany then
        local rest, err = sock:receive(missing)
        if not rest then
            return nil, err
        end
        self.data = data .. rest
        return true
    end
    while missing > 0 do
        local piece, err = sock:receiveany(PIECE)
        if not piece then
            return nil, err
        end
        data = data .. piece
        self.data = data
        missing = missing - #piece
    end
    return true
end

-- The next `count` bytes.
function M.take(self, count)
    local ok, err = self:ensure(count)
    if not ok then
        return nil, err
    end
    local at = self.at
    self.at = at + count
    return sub(self.data, at, at + count - 1)
end

return M
