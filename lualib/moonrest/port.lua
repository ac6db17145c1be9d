-- Ports as text, each made once: they are part of the names of pools.
local rawset, setmetatable, tostring, type = rawset, setmetatable, tostring, type

return setmetatable({}, {
    __index = function(known, port)
        local text = tostring(port)
        if type(port) == "number" and port == port then
            rawset(known, port, text)
        end
        return text
    end,
})
