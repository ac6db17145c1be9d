-- What the contexts of resty.openssl that take their data in pieces have in common: digests, HMACs and other codes.
local describe = require("resty.openssl.err").describe

-- Adds `update`, `final` and `reset` to a class. Errors call it `name`, and the function behind `final` `finish`.
return function(class, name, finish)
    local at_update, at_reset = name .. ":update", name .. ":reset"
    local at_final = name .. ":final: " .. finish

    function class:update(...)
        local ok, err = self.ctx:update(...)
        if not ok then
            return false, describe(at_update, err)
        end
        return true
    end

    function class:final(s)
        local bytes, err = self.ctx:final(s)
        if not bytes then
            return nil, describe(at_final, err)
        end
        return bytes
    end

    function class:reset()
        local ok, err = self.ctx:reset()
        if not ok then
            return false, describe(at_reset, err)
        end
        return true
    end
end
