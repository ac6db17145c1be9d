-- What resty.md5, resty.sha1 and their like have in common: a module around one digest.
local crypto = require "moonrest.crypto"

local setmetatable = setmetatable
local digest = crypto.digest

return function(name)
    local M = { _VERSION = "0.19" }
    local methods = { __index = M }

    function M.new()
        local made = digest(name)
        if not made then
            return nil
        end
        return setmetatable({ _ctx = made }, methods)
    end

    function M.update(self, bytes, len)
        if len and len < #bytes then
            bytes = bytes:sub(1, len)
        end
        return self._ctx:update(bytes) == true
    end

    function M.final(self)
        return (self._ctx:final())
    end

    function M.reset(self)
        return self._ctx:reset() == true
    end

    return M
end
