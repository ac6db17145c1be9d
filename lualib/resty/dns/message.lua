-- `resty.dns.message`: queries and replies of the domain name system as bytes (RFC 1035, 2181, 2782, 3596).
local bit = require "bit"

local band, rshift = bit.band, bit.rshift
local byte, char, find, format, lower, sub = string.byte, string.char, string.find, string.format, string.lower, string.sub
local concat = table.concat
local log, DEBUG = ngx.log, ngx.DEBUG

local M = {
    TYPE_A = 1, TYPE_NS = 2, TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_PTR = 12, TYPE_MX = 15, TYPE_TXT = 16, TYPE_AAAA = 28,
    TYPE_SRV = 33, TYPE_SPF = 99,
    CLASS_IN = 1,
    SECTION_AN = 1, SECTION_NS = 2, SECTION_AR = 3,
}

local ERRORS = { "format error", "server failure", "name error", "not implemented", "refused" }
local MAX_POINTERS = 128
local MAX_NAME = 255

local function u16(buf, pos)
    local high, low = byte(buf, pos, pos + 1)
    if not low then
        return nil
    end
    return high * 256 + low
end

local function u32(buf, pos)
    local a, b, c, d = byte(buf, pos, pos + 3)
    if not d then
        return nil
    end
    return ((a * 256 + b) * 256 + c) * 256 + d
end

local function bytes16(n)
    return char(rshift(n, 8), band(n, 0xff))
end

-- A name as labels; nil where it is none.
local function encode_name(name)
    if byte(name, 1) == 46 then
        return nil
    end
    local parts, n, from, len = {}, 0, 1, #name
    while from <= len do
        local dot = find(name, ".", from, true) or len + 1
        local size = dot - from
        if size == 0 or size > 63 then
            return nil
        end
        parts[n + 1], parts[n + 2] = char(size), sub(name, from, dot - 1)
        n = n + 2
        from = dot + 1
    end
    parts[n + 1] = "\0"
    local encoded = concat(parts)
    if #encoded > MAX_NAME then
        return nil
    end
    return encoded
end

-- The name at `pos`, and the position behind it; or nil and an error.
local function decode_name(buf, pos)
    local labels, n, pointers, size, at = {}, 0, 0, 0, pos
    local after
    while true do
        local len = byte(buf, at)
        if not len then
            return nil, "truncated"
        end
        if len == 0 then
            return concat(labels, "."), after or at + 1
        end
        if len >= 0xc0 then
            local low = byte(buf, at + 1)
            if not low then
                return nil, "truncated"
            end
            after = after or at + 2
            pointers = pointers + 1
            if pointers > MAX_POINTERS then
                return nil, "bad name in DNS response: too many compression pointers"
            end
            at = (len - 0xc0) * 256 + low + 1
        elseif len >= 0x40 then
            return nil, "bad name in DNS response: unknown label type"
        else
            local label = sub(buf, at + 1, at + len)
            if #label < len then
                return nil, "truncated"
            end
            size = size + len + 1
            if size > MAX_NAME then
                return nil, "bad name in DNS response: too long"
            end
            n = n + 1
            labels[n] = label
            at = at + len + 1
        end
    end
end

-- A query as bytes; or nil and an error.
function M.build_request(name, id, no_recurse, opts)
    local encoded = encode_name(name)
    if not encoded then
        return nil, "bad name"
    end
    local qtype = opts and opts.qtype or M.TYPE_A
    return bytes16(id) .. (no_recurse and "\0\0" or "\1\0") .. "\0\1\0\0\0\0\0\0" .. encoded .. bytes16(qtype) .. "\0\1"
end

-- Parsers of a record's data, by type: they fill `ans` and answer an error or nil. All `len` bytes are there.
local DATA = {}

-- The rest of the record from `at` is one name.
local function parse_name(buf, pos, len, at, kind)
    local name, after = decode_name(buf, at)
    if not name then
        return nil, after
    end
    if after - pos ~= len then
        return nil, format("bad %s record length: %d ~= %d", kind, after - pos, len)
    end
    return name
end

DATA[M.TYPE_A] = function(ans, buf, pos)
    local a, b, c, d = byte(buf, pos, pos + 3)
    ans.address = a .. "." .. b .. "." .. c .. "." .. d
end

DATA[M.TYPE_AAAA] = function(ans, buf, pos)
    local words = {}
    for i = 0, 7 do
        words[i + 1] = format("%x", u16(buf, pos + 2 * i))
    end
    ans.address = concat(words, ":")
end

local function name_parser(field)
    return function(ans, buf, pos, len)
        local err
        ans[field], err = parse_name(buf, pos, len, pos, "cname")
        return err
    end
end

DATA[M.TYPE_CNAME] = name_parser("cname")
DATA[M.TYPE_NS] = name_parser("nsdname")
DATA[M.TYPE_PTR] = name_parser("ptrdname")

DATA[M.TYPE_MX] = function(ans, buf, pos, len)
    if len < 3 then
        return "bad MX record value length: " .. len
    end
    local err
    ans.preference = u16(buf, pos)
    ans.exchange, err = parse_name(buf, pos, len, pos + 2, "cname")
    return err
end

DATA[M.TYPE_SRV] = function(ans, buf, pos, len)
    if len < 7 then
        return "bad SRV record value length: " .. len
    end
    local err
    ans.priority, ans.weight, ans.port = u16(buf, pos), u16(buf, pos + 2), u16(buf, pos + 4)
    ans.target, err = parse_name(buf, pos, len, pos + 6, "srv")
    return err
end

-- One string, or a list of them. A string that is longer than the record is cut.
local function text_parser(field)
    return function(ans, buf, pos, len)
        local last = pos + len
        local first, list, n
        while pos < last do
            local to = pos + byte(buf, pos)
            if to >= last then
                to = last - 1
            end
            local text = sub(buf, pos + 1, to)
            if not first then
                first, n = text, 1
            else
                list = list or { first }
                n = n + 1
                list[n] = text
            end
            pos = to + 1
        end
        ans[field] = list or first or ""
    end
end

DATA[M.TYPE_TXT] = text_parser("txt")
DATA[M.TYPE_SPF] = text_parser("spf")

local SOA_NUMBERS = { "serial", "refresh", "retry", "expire", "minimum" }

DATA[M.TYPE_SOA] = function(ans, buf, pos, len)
    local after
    ans.mname, after = decode_name(buf, pos)
    if not ans.mname then
        return after
    end
    ans.rname, after = decode_name(buf, after)
    if not ans.rname then
        return after
    end
    if after + 20 - pos ~= len then
        return format("bad SOA record length: %d ~= %d", after + 20 - pos, len)
    end
    for i = 1, 5 do
        ans[SOA_NUMBERS[i]] = u32(buf, after + 4 * (i - 1))
    end
end

-- The record at `pos`, and the position behind it; or nil and an error.
local function parse_record(buf, pos, section)
    local name
    name, pos = decode_name(buf, pos)
    if not name then
        return nil, pos
    end
    local typ, ttl, len = u16(buf, pos), u32(buf, pos + 4), u16(buf, pos + 8)
    if not len then
        return nil, "truncated"
    end
    if typ == M.TYPE_A and len ~= 4 then
        return nil, "bad A record value length: " .. len
    end
    if typ == M.TYPE_AAAA and len ~= 16 then
        return nil, "bad AAAA record value length: " .. len
    end
    if pos + 9 + len > #buf then
        return nil, "truncated"
    end
    if ttl >= 0x80000000 then
        ttl = 0 -- RFC 2181, 8
    end
    local ans = { section = section, name = name, type = typ, class = u16(buf, pos + 2), ttl = ttl }
    pos = pos + 10
    local parse = DATA[typ]
    if parse then
        local err = parse(ans, buf, pos, len)
        if err then
            return nil, err
        end
    else
        ans.rdata = sub(buf, pos, pos + len - 1)
    end
    return ans, pos + len
end

-- Adds `count` records to `answers`, unless they are to be skipped. Answers the position behind them.
local function parse_section(answers, section, buf, pos, count, skip)
    for _ = 1, count do
        local ans
        ans, pos = parse_record(buf, pos, section)
        if not ans then
            return nil, pos
        end
        if not skip then
            answers[#answers + 1] = ans
        end
    end
    return pos
end

-- The records of a reply; or nil and an error, which is `id mismatch` where it answers another query.
function M.parse_response(buf, id, query, opts)
    if #buf < 12 then
        return nil, "truncated"
    end
    local reply_id, flags = u16(buf, 1), u16(buf, 3)
    if reply_id ~= id then
        log(DEBUG, "id mismatch in the DNS reply: ", reply_id, " ~= ", id)
        return nil, "id mismatch"
    end
    if band(flags, 0x8000) == 0 then
        return nil, "bad QR flag in the DNS response"
    end
    if band(flags, 0x200) ~= 0 then
        return nil, "truncated"
    end
    local questions, records, authorities, additionals = u16(buf, 5), u16(buf, 7), u16(buf, 9), u16(buf, 11)
    if questions ~= 1 then
        return nil, format("bad number of questions in DNS response: %d", questions)
    end
    local name, pos = decode_name(buf, 13)
    if not name then
        return nil, pos
    end
    if pos + 3 + records * 12 > #buf then
        return nil, "truncated"
    end
    local class = u16(buf, pos + 2)
    if class ~= M.CLASS_IN then
        return nil, format("unknown query class %d in DNS response", class)
    end
    local asked = decode_name(query, 13)
    if lower(asked) ~= lower(name) then
        log(DEBUG, "question mismatch in the DNS reply: ", name, " ~= ", asked)
        return nil, "id mismatch"
    end
    pos = pos + 4

    local answers = {}
    local code = band(flags, 0xf)
    if code ~= 0 then
        answers.errcode, answers.errstr = code, ERRORS[code] or "unknown"
    end
    local wants_authority = opts and (opts.authority_section or opts.qtype == M.TYPE_SOA)
    local wants_additional = opts and opts.additional_section
    local err
    pos, err = parse_section(answers, M.SECTION_AN, buf, pos, records)
    if pos and (wants_authority or wants_additional) then
        pos, err = parse_section(answers, M.SECTION_NS, buf, pos, authorities, not wants_authority)
    end
    if pos and wants_additional then
        pos, err = parse_section(answers, M.SECTION_AR, buf, pos, additionals)
    end
    if not pos then
        return nil, err
    end
    return answers
end

return M
