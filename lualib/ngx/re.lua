-- The module `ngx.re`: split, and settings of the engine.
local ffi = require "ffi"
local base = require "resty.core.base"
local regex = require "resty.core.regex"

local C = ffi.C
local ffi_string = ffi.string
local error, max, min, sub, tostring, type = error, math.max, math.min, string.sub, tostring, type
local new_tab = base.new_tab
local compile, destroy = regex.re_match_compile, regex.destroy_compiled_regex

ffi.cdef [[
int ngx_http_lua_ffi_set_jit_stack_size(int size, unsigned char *errstr, size_t *errstr_size);
]]

local M = { version = base.version }

local NOMATCH = -1
local MAX_ERROR = 128
-- Room for so many fields is made at once.
local FIELDS = 4

-- Splits `subject` into `res`, from `start` on; answers how many fields there are, or nil and an error.
local function fields(subject, compiled, flags, ctx, start, limit, res)
    local len, count, n = #subject, 1, 0
    local pos, skipped = start - 1, nil
    while limit <= 0 or count < limit do
        local groups = C.ngx_http_lua_ffi_exec_regex(compiled, flags, subject, len, max(pos, 0))
        if groups == NOMATCH then
            break
        end
        if groups < 0 then
            return nil, "pcre_exec() failed: " .. groups
        end
        local places = compiled.captures
        local from, to = places[0], places[1]
        if from < 0 or to < 0 then
            break
        end
        pos = from == to and to + 1 or to
        if ctx then
            ctx.pos = pos
        end
        -- After an empty match the next field begins where that was.
        start = skipped or start
        if from == to then
            skipped = from + 1
        end
        if from + 1 > start or not skipped then
            count, n = count + 1, n + 1
            res[n] = sub(subject, start, from)
            if compiled.ncaptures > 0 and groups > 1 then
                n = n + 1
                res[n] = sub(subject, places[2] + 1, places[3])
            end
            start = to + 1
            if start > len then
                break
            end
        end
    end
    if limit <= 0 and start > len then
        -- Empty fields at the end do not count.
        while n > 0 and res[n] == "" do
            res[n] = nil
            n = n - 1
        end
        return n
    end
    res[n + 1] = sub(subject, start)
    return n + 1
end

function M.split(subject, pattern, opts, ctx, limit, res)
    subject = tostring(subject)
    limit = limit or 0
    local start = ctx and ctx.pos or 1
    if ctx then
        ctx.pos = start
    end
    if res == nil then
        res = new_tab(limit > 0 and min(limit, FIELDS) or FIELDS, 0)
    elseif type(res) ~= "table" then
        error("res is not a table", 2)
    end
    if start > #subject then
        res[1] = nil
        return res
    end
    local compiled, keep, flags = compile(pattern, opts)
    if not compiled then
        return nil, keep
    end
    if ctx then
        ctx.pos = start - 1
    end
    local n, err = fields(subject, compiled, flags, ctx, start, limit, res)
    if not keep then
        destroy(compiled)
    end
    if not n then
        return nil, err
    end
    res[n + 1] = nil
    return res
end

function M.opt(option, value)
    if option ~= "jit_stack_size" then
        error("unrecognized option name", 2)
    end
    if not regex.is_regex_cache_empty() then
        error("changing jit stack size is not allowed when some regexs have already been compiled and cached", 2)
    end
    local errors, size = base.get_string_buf(MAX_ERROR), base.get_size_ptr()
    size[0] = MAX_ERROR
    if C.ngx_http_lua_ffi_set_jit_stack_size(value, errors, size) ~= base.FFI_OK then
        error(ffi_string(errors, size[0]), 2)
    end
end

return M
