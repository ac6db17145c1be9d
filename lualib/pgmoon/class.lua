-- Classes as the MoonScript compiler lays them out, so that programs in MoonScript can extend pgmoon's.
local new_tab = require "table.new"

local setmetatable = setmetatable

-- An empty class: its methods go into `__base`, its constructor is `__init`.
return function(name)
    local base = {}
    base.__index = base
    local class = { __base = base, __name = name, __init = function() end }
    base.__class = class
    return setmetatable(class, {
        __index = base,
        __call = function(self, ...)
            local object = setmetatable(new_tab(0, 8), base)
            self.__init(object, ...)
            return object
        end,
    })
end
