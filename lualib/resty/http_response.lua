-- How `resty.http` reads what the other side sends: status lines, fields, bodies with a length, in chunks or up to the
-- end of the connection, and trailers (RFC 9112).
--
-- A message body belongs to a `client`. Its `unread` counts answers that are owed or not read to their end; where
-- framing fails or the connection is at its end, `keepalive` becomes false. Either keeps a connection out of the pool.
local http_headers = require "resty.http_headers"

local find, sub, byte, lower = string.find, string.sub, string.byte, string.lower
local concat = table.concat
local tonumber, tostring, type = tonumber, tostring, type
local ngx = ngx

-- Bounds on what a head may hold: lines, and bytes in all of them.
local MAX_LINES, MAX_BYTES = 1000, 1048576
local MAX_INTERIM = 100

local M = {}

local function is_digits(s)
    local n = #s
    if n == 0 then
        return false
    end
    for i = 1, n do
        local c = byte(s, i)
        if c < 48 or c > 57 then
            return false
        end
    end
    return true
end

-- The status code, the version as a number and the reason; or three nils and an error.
function M.status(sock)
    local line, err = sock:receive("*l")
    if not line then
        return nil, nil, nil, err
    end
    local version = tonumber(sub(line, 6, 8))
    if not version or sub(line, 1, 5) ~= "HTTP/" then
        return nil, nil, nil, "couldn't parse HTTP version from response status line: " .. line
    end
    local digits = sub(line, 10, 12)
    local after = byte(line, 13)
    if #digits ~= 3 or not is_digits(digits) or (after and after ~= 32) then
        return nil, nil, nil, "couldn't parse status code from response status line: " .. line
    end
    return tonumber(digits), version, sub(line, 14)
end

-- A value without the blanks around it. The first byte is known to be behind the colon.
local function trimmed(line, from)
    local to = #line
    local c = byte(line, from)
    while c == 32 or c == 9 do
        from = from + 1
        c = byte(line, from)
    end
    c = byte(line, to)
    while to >= from and (c == 32 or c == 9) do
        to = to - 1
        c = byte(line, to)
    end
    return sub(line, from, to)
end

-- Fields up to an empty line. `line` is the first, if it has been read already.
function M.headers(sock, line)
    local headers = http_headers.new()
    local bytes, err = 0, nil
    for _ = 1, MAX_LINES do
        if not line then
            line, err = sock:receive("*l")
            if not line then
                return nil, err
            end
        end
        if line == "" then
            return headers
        end
        bytes = bytes + #line
        if bytes > MAX_BYTES then
            break
        end
        local colon = find(line, ":", 1, true)
        if not colon or colon == 1 or find(line, " ", 1, true) == colon - 1 or byte(line) == 32 or byte(line) == 9 then
            return nil, "couldn't parse header line from response: " .. line
        end
        local name, value = sub(line, 1, colon - 1), trimmed(line, colon + 1)
        local present = headers[name]
        if present == nil then
            headers[name] = value
        elseif type(present) == "table" then
            present[#present + 1] = value
        else
            headers[name] = { present, value }
        end
        line = nil
    end
    return nil, "too many header fields in response"
end

-- A final answer's status line and fields; interim ones (1xx, but not 101) are passed over. With `wanted`, an interim
-- answer of that status is final.
function M.head(sock, wanted)
    for _ = 1, MAX_INTERIM do
        local status, version, reason, err = M.status(sock)
        if not status then
            return nil, err
        end
        local headers
        headers, err = M.headers(sock)
        if not headers then
            return nil, err
        end
        if status >= 200 or status == 101 or status == wanted then
            return status, version, reason, headers
        end
    end
    return nil, "too many interim responses"
end

local function list(value)
    if type(value) == "table" then
        return concat(value, ",")
    end
    return value
end

function M.is_chunked(headers)
    local coding = list(headers["Transfer-Encoding"])
    return coding ~= nil and find(lower(coding), "chunked", 1, true) ~= nil
end

-- The length that fields announce, or nil. One that cannot be relied upon is an error: two readers would disagree.
function M.length(headers)
    local value = headers["Content-Length"]
    if value == nil then
        return nil
    end
    if type(value) == "table" then
        for i = 2, #value do
            if value[i] ~= value[1] then
                return nil, "conflicting Content-Length in response: " .. concat(value, ", ")
            end
        end
        value = value[1]
    end
    value = tostring(value)
    if not is_digits(value) or #value > 15 then
        return nil, "bad Content-Length in response: " .. value
    end
    return tonumber(value)
end

-- Makes an iterator of `step(size)`, which answers a piece; nothing at the end; or nil and an error. What comes after
-- the end is said in the words that a coroutine would have for it.
local function reader_of(client, step)
    local ended, problem = false, nil
    return function(size)
        if problem then
            return nil, problem
        end
        if ended then
            return nil, "can't resume a dead coroutine"
        end
        local piece, err, partial = step(size)
        if err then
            problem = err
            if client then
                client.keepalive = false
            end
            return nil, err, partial
        end
        if piece == nil then
            ended = true
            return nil
        end
        return piece
    end
end

local function finish(client)
    if client then
        client.unread = client.unread - 1
    end
end

-- A size that a caller gave: none where it is no positive number.
local function wanted_size(size, default)
    size = tonumber(size or default)
    if size and size <= 0 then
        return nil
    end
    return size
end

-- The reader asks for a size each time, once it was given one.
local function no_size()
    ngx.log(ngx.ERR, "Buffer size not specified, bailing")
    return nil
end

-- A body of `length` bytes.
function M.fixed_reader(client, sock, length, default_size)
    local left, streaming = length, nil
    if left == 0 then
        finish(client)
    end
    return reader_of(client, function(size)
        size = wanted_size(size, default_size)
        if streaming == nil then
            streaming = size ~= nil
            if not streaming and left == 0 then
                left = nil
                return ""
            end
        elseif not left or left == 0 then
            return nil
        elseif streaming and not size then
            return no_size()
        end
        if not left or left == 0 then
            return nil
        end
        if not size or size > left then
            size = left
        end
        local piece, err, partial = sock:receive(size)
        if not piece then
            return nil, err, partial
        end
        left = left - size
        if left == 0 then
            finish(client)
        end
        return piece
    end)
end

-- A body that ends with the connection.
function M.open_reader(client, sock, default_size)
    local at_end, streaming = false, nil
    local function ended()
        at_end = true
        finish(client)
    end
    if client then
        client.keepalive = false
    end
    return reader_of(client, function(size)
        if at_end then
            return nil
        end
        size = wanted_size(size, default_size)
        if streaming == nil then
            streaming = size ~= nil
        elseif streaming and not size then
            return no_size()
        end
        if not size then
            local rest, err, partial = sock:receive("*a")
            if not rest then
                return nil, err, partial
            end
            ended()
            return rest
        end
        local piece, err, partial = sock:receive(size)
        if piece then
            return piece
        end
        if err ~= "closed" then
            return nil, err, partial
        end
        ended()
        if partial and partial ~= "" then
            return partial
        end
        return nil
    end)
end

-- The size on a chunk's first line; extensions are passed over.
local function chunk_size(line)
    local to = find(line, ";", 1, true)
    local digits = to and sub(line, 1, to - 1) or line
    to = #digits
    while to > 0 and (byte(digits, to) == 32 or byte(digits, to) == 9) do
        to = to - 1
    end
    if to == 0 or to > 13 then
        return nil
    end
    for i = 1, to do
        local c = byte(digits, i)
        if not (c >= 48 and c <= 57 or c >= 65 and c <= 70 or c >= 97 and c <= 102) then
            return nil
        end
    end
    return tonumber(sub(digits, 1, to), 16)
end

-- A body in chunks. `on_trailers`, if given, gets the fields after the last chunk, or nil when there are none.
function M.chunked_reader(client, sock, default_size, on_trailers)
    local left, at_end = 0, false
    -- The size of the next chunk; 0 after the last one and what follows it.
    local function next_chunk()
        local line, err = sock:receive("*l")
        if not line then
            return nil, err
        end
        local size = chunk_size(line)
        if not size then
            return nil, "unable to read chunksize"
        end
        if size > 0 then
            return size
        end
        line, err = sock:receive("*l")
        if not line then
            return nil, err
        end
        if line ~= "" then
            local trailers
            trailers, err = M.headers(sock, line)
            if not trailers then
                return nil, err
            end
            if on_trailers then
                on_trailers(trailers)
            end
        end
        return 0
    end
    return reader_of(client, function(size)
        if at_end then
            return nil
        end
        size = wanted_size(size, default_size)
        if left == 0 then
            local err
            left, err = next_chunk()
            if not left then
                return nil, err
            end
            if left == 0 then
                at_end = true
                finish(client)
                return nil
            end
        end
        if not size or size > left then
            size = left
        end
        local piece, err, partial = sock:receive(size)
        if not piece then
            return nil, err, partial
        end
        left = left - size
        if left == 0 then
            local line_end
            line_end, err = sock:receive(2)
            if not line_end then
                return nil, err
            end
            if line_end ~= "\r\n" then
                return nil, "unable to read chunksize"
            end
        end
        return piece
    end)
end

function M.no_body()
    return nil
end

-- All of a body; or nil, an error and what came before it.
function M.read_body(res)
    local reader = res.body_reader
    if not reader then
        return nil, "no body to be read"
    end
    local pieces, n = {}, 0
    while true do
        local piece, err, partial = reader()
        if err then
            pieces[n + 1] = piece or partial
            return nil, err, concat(pieces)
        end
        if not piece then
            return n == 1 and pieces[1] or concat(pieces)
        end
        n = n + 1
        pieces[n] = piece
    end
end

-- Fields that may not come after a body (RFC 9110, 6.5.1).
local FORBIDDEN = {
    "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Host", "Authorization", "Set-Cookie",
    "Content-Encoding", "Content-Type", "Content-Range",
}

function M.read_trailers(res)
    local reader = res.trailer_reader
    if not reader then
        return nil, "no trailers"
    end
    local trailers, err = reader()
    if not trailers then
        return nil, err
    end
    for i = 1, #FORBIDDEN do
        trailers[FORBIDDEN[i]] = nil
    end
    http_headers.append(res.headers, trailers)
end

return M
