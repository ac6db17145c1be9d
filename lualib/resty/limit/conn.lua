-- resty.limit.conn: so many requests at a time; some more have to wait.
local floor = math.floor
local assert, setmetatable = assert, setmetatable
local shared = ngx.shared

local M = { _VERSION = "0.09" }
local methods = { __index = M }

function M.new(dict_name, max, burst, default_conn_delay)
    local dict = shared[dict_name]
    if not dict then
        return nil, "shared dict not found"
    end
    assert(max > 0 and burst >= 0 and default_conn_delay > 0)
    return setmetatable({ dict = dict, max = max + 0, burst = burst, unit_delay = default_conn_delay }, methods)
end

-- Answers how long the request is to wait, and how many there are.
function M.incoming(self, key, commit)
    local dict, max = self.dict, self.max
    local most = max + self.burst
    self.committed = false
    local count, err
    if commit then
        count, err = dict:incr(key, 1, 0)
        if not count then
            return nil, err
        end
        if count > most then
            count, err = dict:incr(key, -1)
            return nil, count and "rejected" or err
        end
        self.committed = true
    else
        count = (dict:get(key) or 0) + 1
        if count > most then
            return nil, "rejected"
        end
    end
    if count > max then
        return self.unit_delay * floor((count - 1) / max), count
    end
    return 0, count
end

function M.is_committed(self)
    return self.committed
end

-- A request has ended. Its latency, if given, makes the delay of later ones more fitting.
function M.leaving(self, key, req_latency)
    assert(key)
    local count, err = self.dict:incr(key, -1)
    if not count then
        return nil, err
    end
    if req_latency then
        self.unit_delay = (req_latency + self.unit_delay) / 2
    end
    return count
end

function M.uncommit(self, key)
    assert(key)
    return self.dict:incr(key, -1)
end

function M.set_conn(self, max)
    self.max = max
end

function M.set_burst(self, burst)
    self.burst = burst
end

return M
