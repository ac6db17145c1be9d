-- resty.lock: locks between workers, kept in a shared dictionary. A lock that is forgotten is released when it is
-- collected, or when it has expired.
local ffi = require "ffi"
require "resty.core.shdict"

local max, min = math.max, math.min
local setmetatable = setmetatable
local ffi_gc, ffi_new = ffi.gc, ffi.new
local shared = ngx.shared
local sleep = ngx.sleep
local log, ERR = ngx.log, ngx.ERR

local M = { _VERSION = "0.09" }
local methods = { __index = M }

local sentinel = ffi.typeof("char[1]")

-- What tells when a lock is collected. The finalizer knows the held key alone, not the lock.
local function watch(held)
    return ffi_gc(ffi_new(sentinel), function()
        local key = held.key
        if key ~= nil then
            held.key = nil
            local ok, err = held.dict:delete(key)
            if not ok then
                log(ERR, 'failed to delete key "', key, '": ', err)
            end
        end
    end)
end

function M.new(_, dict_name, opts)
    local dict = shared[dict_name]
    if not dict then
        return nil, "dictionary not found"
    end
    opts = opts or {}
    local exptime = opts.exptime or 30
    local timeout, step = opts.timeout, opts.step
    if timeout then
        timeout = min(timeout, exptime)
        step = step and min(step, timeout)
    end
    local held = { dict = dict }
    return setmetatable({
        dict = dict,
        exptime = exptime,
        timeout = timeout or 5,
        step = step or 0.001,
        ratio = opts.ratio or 2,
        max_step = opts.max_step or 0.5,
        held = held,
        watch = watch(held),
    }, methods)
end

-- Waits for the lock, ever longer from one attempt to the next; answers how long it took.
function M.lock(self, key)
    if not key then
        return nil, "nil key"
    end
    local held, dict, exptime = self.held, self.dict, self.exptime
    if held.key ~= nil then
        return nil, "locked"
    end
    local step, left, elapsed = self.step, self.timeout, 0
    while true do
        local ok, err = dict:add(key, true, exptime)
        if ok then
            held.key = key
            return elapsed
        end
        if err ~= "exists" then
            return nil, err
        end
        if left <= 0 then
            return nil, "timeout"
        end
        if elapsed > 0 then
            step = min(max(0.001, step * self.ratio), left, self.max_step)
        end
        sleep(step)
        elapsed = elapsed + step
        left = left - step
    end
end

function M.unlock(self)
    local held = self.held
    local key = held.key
    if key == nil then
        return nil, "unlocked"
    end
    held.key = nil
    local ok, err = self.dict:delete(key)
    if not ok then
        return nil, err
    end
    return 1
end

-- Holds the lock for `time` more seconds.
function M.expire(self, time)
    local key = self.held.key
    if key == nil then
        return nil, "unlocked"
    end
    local ok, err = self.dict:replace(key, true, time or self.exptime)
    if not ok then
        return nil, err
    end
    return true
end

return M
