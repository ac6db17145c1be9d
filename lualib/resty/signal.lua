-- resty.signal: signals by name, and sending them.
local ffi = require "ffi"

local C = ffi.C
local assert, error, pcall, tonumber, type = assert, error, pcall, tonumber, type
local format = string.format

local M = { version = 0.05 }

if not pcall(function() return C.kill end) then
    ffi.cdef "int kill(int32_t pid, int sig);"
end
if not pcall(function() return C.strerror end) then
    ffi.cdef "char *strerror(int errnum);"
end

-- Linux's numbers.
local numbers = {
    NONE = 0,
    HUP = 1,
    INT = 2,
    QUIT = 3,
    ILL = 4,
    TRAP = 5,
    ABRT = 6,
    BUS = 7,
    FPE = 8,
    KILL = 9,
    USR1 = 10,
    SEGV = 11,
    USR2 = 12,
    PIPE = 13,
    ALRM = 14,
    TERM = 15,
    CHLD = 17,
    CONT = 18,
    STOP = 19,
    TSTP = 20,
    TTIN = 21,
    TTOU = 22,
    URG = 23,
    XCPU = 24,
    XFSZ = 25,
    VTALRM = 26,
    PROF = 27,
    WINCH = 28,
    IO = 29,
    PWR = 30,
    SYS = 31,
}

-- Names of other systems, which raise an error.
local elsewhere = { EMT = 30, INFO = 33 }

local function signum(name)
    if type(name) == "number" then
        return name
    end
    local number = numbers[name]
    if number then
        return number
    end
    if elsewhere[name] then
        error(format("missing C def for signal %s = %d", name, elsewhere[name]), 2)
    end
    return nil, "unknown signal name"
end

M.signum = signum

function M.kill(pid, signal)
    assert(signal)
    local number, err = signum(signal)
    if not number then
        return nil, err
    end
    if tonumber(C.kill(assert(pid), number)) == 0 then
        return true
    end
    return nil, ffi.string(C.strerror(ffi.errno()))
end

return M
