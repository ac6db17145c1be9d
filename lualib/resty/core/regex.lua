-- `ngx.re`: match, find, gmatch, sub, gsub.
local ffi = require "ffi"
local bit = require "bit"
local base = require "resty.core.base"

local C = ffi.C
local ffi_cast, ffi_copy, ffi_gc, ffi_string = ffi.cast, ffi.copy, ffi.gc, ffi.string
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local byte, format, sub = string.byte, string.format, string.sub
local error, setmetatable, tonumber, tostring, type = error, setmetatable, tonumber, tostring, type
local get_string_buf, get_string_buf_size = base.get_string_buf, base.get_string_buf_size
local new_tab = base.new_tab
local ngx = ngx

ffi.cdef [[
typedef struct {
    ngx_str_t value;
    void *lengths;
    void *values;
} ngx_http_lua_complex_value_t;

typedef struct {
    void *pool;
    unsigned char *name_table;
    int name_count;
    int name_entry_size;
    int ncaptures;
    int *captures;
    void *regex;
    void *regex_sd;
    ngx_http_lua_complex_value_t *replace;
    const char *pattern;
} ngx_http_lua_regex_t;

struct ngx_http_lua_script_engine_s;
typedef struct ngx_http_lua_script_engine_s *ngx_http_lua_script_engine_t;

ngx_http_lua_regex_t *ngx_http_lua_ffi_compile_regex(const unsigned char *pat, size_t pat_len, int flags,
    int pcre_opts, unsigned char *errstr, size_t errstr_size);
int ngx_http_lua_ffi_exec_regex(ngx_http_lua_regex_t *re, int flags, const unsigned char *s, size_t len, int pos);
void ngx_http_lua_ffi_destroy_regex(ngx_http_lua_regex_t *re);
int ngx_http_lua_ffi_compile_replace_template(ngx_http_lua_regex_t *re, const unsigned char *replace_data,
    size_t replace_len);
ngx_http_lua_script_engine_t *ngx_http_lua_ffi_create_script_engine(void);
void ngx_http_lua_ffi_init_script_engine(ngx_http_lua_script_engine_t *e, const unsigned char *subj,
    ngx_http_lua_regex_t *compiled, int count);
void ngx_http_lua_ffi_destroy_script_engine(ngx_http_lua_script_engine_t *e);
size_t ngx_http_lua_ffi_script_eval_len(ngx_http_lua_script_engine_t *e, ngx_http_lua_complex_value_t *cv);
size_t ngx_http_lua_ffi_script_eval_data(ngx_http_lua_script_engine_t *e, ngx_http_lua_complex_value_t *cv,
    unsigned char *dst);
uint32_t ngx_http_lua_ffi_max_regex_cache_size(void);
const char *ngx_http_lua_ffi_pcre_version(void);
]]

local M = { version = base.version }

local NOMATCH = -1
local MAX_ERROR = 256

local COMPILE_ONCE, DFA, JIT, DUPNAMES, NO_UTF8_CHECK = 0x01, 0x02, 0x04, 0x08, 0x10

-- What each letter sets: a flag of ours, and options of PCRE2.
local letters = {
    [byte "a"] = { 0, 0x80000000 },
    [byte "d"] = { DFA, 0 },
    [byte "D"] = { DUPNAMES, 0x00000040 },
    [byte "i"] = { 0, 0x00000008 },
    [byte "j"] = { JIT, 0 },
    [byte "J"] = { 0, 0x00000203 },
    [byte "m"] = { 0, 0x00000400 },
    [byte "o"] = { COMPILE_ONCE, 0 },
    [byte "s"] = { 0, 0x00000020 },
    [byte "u"] = { 0, 0x00080000 },
    [byte "U"] = { NO_UTF8_CHECK, 0x00080000 },
    [byte "x"] = { 0, 0x00000080 },
}

local parsed = new_tab(0, 8)

-- Flags and options of a string of letters.
local function parse(opts)
    local known = parsed[opts]
    if not known then
        known = { 0, 0 }
        for i = 1, #opts do
            local letter = letters[byte(opts, i)]
            if not letter then
                error(format('unknown flag "%s" (flags "%s")', sub(opts, i, i), opts), 4)
            end
            known[1], known[2] = bor(known[1], letter[1]), bor(known[2], letter[2])
        end
        parsed[opts] = known
    end
    return known[1], known[2]
end

-- Expressions with the option "o". When the newer half is full it becomes the older one; what is in neither is
-- forgotten, and freed when nobody uses it any more.
local newer, older, newer_size = {}, {}, 0
local half

local function cached(key)
    local found = newer[key]
    if not found then
        found = older[key]
        if found then
            newer[key], newer_size = found, newer_size + 1
        end
    end
    return found
end

local function cache(key, compiled)
    if not half then
        half = tonumber(C.ngx_http_lua_ffi_max_regex_cache_size()) / 2
    end
    if half == 0 then
        return false
    end
    if newer_size >= half then
        newer, older, newer_size = {}, newer, 0
    end
    newer[key], newer_size = compiled, newer_size + 1
    return true
end

function M.is_regex_cache_empty()
    return newer_size == 0
end

local function destroy(compiled)
    C.ngx_http_lua_ffi_destroy_regex(ffi_gc(compiled, nil))
end
M.destroy_compiled_regex = destroy

-- The expression, whether it is cached (else it is to be destroyed), and its flags; or nil and an error. With a string
-- as replacement it is compiled, too.
local function compile(regex, opts, replacement)
    local flags, options = 0, 0
    if opts then
        flags, options = parse(opts)
    end
    if type(regex) ~= "string" then
        if type(regex) ~= "number" then
            error("bad regex argument (string expected, got " .. type(regex) .. ")", 3)
        end
        regex = tostring(regex)
    end
    local once, key = band(flags, COMPILE_ONCE) ~= 0, nil
    if once then
        key = replacement and opts .. "\1" .. #regex .. "\0" .. regex .. replacement or opts .. "\0" .. regex
        local found = cached(key)
        if found then
            return found, true, flags
        end
    end
    local errors = get_string_buf(MAX_ERROR)
    local compiled = C.ngx_http_lua_ffi_compile_regex(regex, #regex, flags, options, errors, MAX_ERROR)
    if compiled == nil then
        return nil, ffi_string(errors)
    end
    ffi_gc(compiled, C.ngx_http_lua_ffi_destroy_regex)
    if replacement and C.ngx_http_lua_ffi_compile_replace_template(compiled, replacement, #replacement) ~= 0 then
        destroy(compiled)
        return nil, "failed to compile the replacement template"
    end
    return compiled, once and cache(key, compiled), flags
end

function M.re_match_compile(regex, opts)
    return compile(regex, opts)
end

-- Matches from `pos`. The count of groups matched, or nil, with an error if it is not that nothing matches.
local function exec(compiled, flags, subject, pos)
    local count = C.ngx_http_lua_ffi_exec_regex(compiled, flags, subject, #subject, pos)
    if count > 0 then
        return count
    end
    if count == NOMATCH then
        return nil
    end
    if count < 0 then
        return nil, "pcre_exec() failed: " .. count
    end
    if band(flags, DFA) == 0 then
        return nil, "capture size too small"
    end
    return 1
end

-- Fills in the groups by name. With the option "D" several groups may have one name.
local function name_captures(compiled, flags, res)
    local entry = compiled.name_table
    local dupnames = band(flags, DUPNAMES) ~= 0
    for _ = 1, compiled.name_count do
        local text = res[bor(lshift(entry[0], 8), entry[1])]
        local name = ffi_string(entry + 2)
        if not dupnames then
            res[name] = text
        elseif text then
            local list = res[name]
            if list then
                list[#list + 1] = text
            else
                res[name] = { text }
            end
        end
        entry = entry + compiled.name_entry_size
    end
end

-- The groups of the last match as a table; those that did not take part are false.
local function collect(compiled, subject, flags, res)
    local places, last = compiled.captures, compiled.ncaptures
    res = res or new_tab(last, compiled.name_count)
    for i = 0, last do
        local from = places[2 * i]
        res[i] = from >= 0 and sub(subject, from + 1, places[2 * i + 1])
    end
    if compiled.name_count > 0 then
        name_captures(compiled, flags, res)
    end
    return res
end

function M.collect_captures(compiled, _, subject, flags, res)
    return collect(compiled, subject, flags, res)
end

local function first_pos(ctx)
    local pos = ctx and ctx.pos
    return pos and pos > 0 and pos - 1 or 0
end

local re = new_tab(0, 5)
ngx.re = re

function re.match(subject, regex, opts, ctx, res)
    subject = tostring(subject)
    local compiled, keep, flags = compile(regex, opts)
    if not compiled then
        return nil, keep
    end
    local count, err = exec(compiled, flags, subject, first_pos(ctx))
    if count then
        if ctx then
            ctx.pos = compiled.captures[1] + 1
        end
        res = collect(compiled, subject, flags, res)
    end
    if not keep then
        destroy(compiled)
    end
    if err then
        return nil, err
    end
    return count and res or nil
end

-- Where a group of the last match is, in Lua's numbers.
local function place(compiled, count, nth)
    nth = nth and nth >= 0 and nth or 0
    if nth > compiled.ncaptures then
        return nil, nil, "nth out of bound"
    end
    local from = nth < count and compiled.captures[2 * nth] or -1
    if from < 0 then
        return nil, nil
    end
    return from + 1, compiled.captures[2 * nth + 1]
end

function re.find(subject, regex, opts, ctx, nth)
    subject = tostring(subject)
    local compiled, keep, flags = compile(regex, opts)
    if not compiled then
        return nil, nil, keep
    end
    local count, from, to, err
    count, err = exec(compiled, flags, subject, first_pos(ctx))
    if count then
        if ctx then
            ctx.pos = compiled.captures[1] + 1
        end
        from, to, err = place(compiled, count, nth)
    end
    if not keep then
        destroy(compiled)
    end
    if not count and not err then
        return nil
    end
    if err then
        return from, to, err
    end
    return from, to
end

local function end_iteration(self)
    if not self.keep then
        destroy(self.compiled)
    end
    self.compiled, self.subject, self.pos = nil, nil, nil
end

local iterator = {}

function iterator.__call(self)
    local pos, compiled, subject, flags = self.pos, self.compiled, self.subject, self.flags
    if not pos then
        return nil
    end
    local count, err = exec(compiled, flags, subject, pos)
    if not count then
        end_iteration(self)
        if err then
            return nil, err
        end
        return nil
    end
    local from, to = compiled.captures[0], compiled.captures[1]
    local res = collect(compiled, subject, flags)
    if from == to then
        -- Nothing was matched: go on behind the next byte, or end.
        to = to + 1
        if to > #subject then
            end_iteration(self)
            return res
        end
    end
    self.pos = to
    return res
end

function re.gmatch(subject, regex, opts)
    subject = tostring(subject)
    local compiled, keep, flags = compile(regex, opts)
    if not compiled then
        return nil, keep
    end
    local object = setmetatable({ compiled = compiled, keep = keep, subject = subject, flags = flags, pos = 0 }, iterator)
    return object
end

local growth = 2

function M.set_buf_grow_ratio(ratio)
    growth = ratio
end

-- Makes sure that `needed` bytes have room in `buf`, of whose `size` bytes `len` are used. `own`: the buffer is the
-- caller's own.
local function reserve(buf, size, len, needed, own)
    if needed <= size then
        return buf, size
    end
    size = size * growth
    if size < needed then
        size = needed
    end
    local larger = get_string_buf(size, own)
    ffi_copy(larger, buf, len)
    return larger, size
end

function M.check_buf_size(buf, buf_size, pos, len, new_len, must_alloc)
    local larger, size = reserve(buf, buf_size, len, new_len, must_alloc)
    if larger ~= buf then
        pos = larger + len
    end
    return larger, size, pos, new_len
end

local engine

-- What the last match becomes.
local function expand(compiled, subject, count)
    local value = compiled.replace
    if value.lengths == nil then
        return nil, tonumber(value.value.len)
    end
    if not engine then
        engine = ffi_gc(C.ngx_http_lua_ffi_create_script_engine(), C.ngx_http_lua_ffi_destroy_script_engine)
    end
    C.ngx_http_lua_ffi_init_script_engine(engine, subject, compiled, count)
    return engine, tonumber(C.ngx_http_lua_ffi_script_eval_len(engine, value))
end

local bytes = ffi.typeof "const char *"

local function substitute(subject, regex, replace, opts, global)
    subject = tostring(subject)
    local call = type(replace) == "function"
    if not call and type(replace) ~= "string" then
        replace = tostring(replace)
    end
    local compiled, keep, flags = compile(regex, opts, not call and replace or nil)
    if not compiled then
        return nil, nil, keep
    end
    -- A function may use the shared buffer, and match with the same expression.
    local size = get_string_buf_size()
    local buf, len = get_string_buf(size, call), 0
    local done, pos, count, err = 0, 0, 0, nil
    local subject_len = #subject
    while pos <= subject_len do
        local groups
        groups, err = exec(compiled, flags, subject, pos)
        if not groups then
            break
        end
        count = count + 1
        local from, to = compiled.captures[0], compiled.captures[1]
        local before = from - done
        if before < 0 then
            before = 0
        end
        local script, piece, piece_len
        if call then
            piece = tostring(replace(collect(compiled, subject, flags)))
            piece_len = #piece
        else
            script, piece_len = expand(compiled, subject, groups)
        end
        local needed = len + before + piece_len
        buf, size = reserve(buf, size, len, needed, call)
        if before > 0 then
            ffi_copy(buf + len, ffi_cast(bytes, subject) + done, before)
        end
        if script then
            C.ngx_http_lua_ffi_script_eval_data(script, compiled.replace, buf + (len + before))
        elseif piece_len > 0 then
            ffi_copy(buf + (len + before), piece or compiled.replace.value.data, piece_len)
        end
        len, done = needed, to
        pos = to == from and to + 1 or to
        if not global then
            break
        end
    end
    if not keep then
        destroy(compiled)
    end
    if err then
        return nil, nil, err
    end
    if count == 0 then
        return subject, 0
    end
    local rest = subject_len - done
    if rest > 0 then
        buf, size = reserve(buf, size, len, len + rest, call)
        ffi_copy(buf + len, ffi_cast(bytes, subject) + done, rest)
        len = len + rest
    end
    return ffi_string(buf, len), count
end

function re.sub(subject, regex, replace, opts)
    return substitute(subject, regex, replace, opts, false)
end

function re.gsub(subject, regex, replace, opts)
    return substitute(subject, regex, replace, opts, true)
end

return M
