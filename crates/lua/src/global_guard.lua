-- Tells of global variables that are made while requests are served: they are shared by all of them.
local log, WARN, get_phase = ngx.log, ngx.WARN, ngx.get_phase
local rawset, tostring, traceback = rawset, tostring, debug.traceback

setmetatable(_G, {
    __newindex = function(globals, name, value)
        rawset(globals, name, value)
        local phase = get_phase()
        if phase == "init" or phase == "init_worker" then
            return
        end
        log(WARN, "writing a global Lua variable ('", tostring(name), "') which may lead to race conditions ",
            "between concurrent requests, so prefer the use of 'local' variables", traceback("", 2))
    end,
})
