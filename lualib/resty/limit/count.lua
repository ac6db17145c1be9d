-- resty.limit.count: so many requests in a window of time.
local assert, setmetatable = assert, setmetatable
local shared = ngx.shared

local M = { _VERSION = "0.09" }
local methods = { __index = M }

function M.new(dict_name, limit, window)
    local dict = shared[dict_name]
    if not dict then
        return nil, "shared dict not found"
    end
    assert(limit > 0 and window > 0)
    return setmetatable({ dict = dict, limit = limit, window = window }, methods)
end

-- Answers 0 and how many requests are left.
function M.incoming(self, key, commit)
    local dict, limit = self.dict, self.limit
    local left, err
    if commit then
        left, err = dict:incr(key, -1, limit, self.window)
        if not left then
            return nil, err
        end
    else
        left = (dict:get(key) or limit) - 1
    end
    if left < 0 then
        return nil, "rejected"
    end
    return 0, left
end

function M.uncommit(self, key)
    assert(key)
    local left, err = self.dict:incr(key, 1)
    if left then
        return left
    end
    if err == "not found" then
        return self.limit
    end
    return nil, err
end

return M
