-- `resty.upload`: reads a multipart body piece by piece while it arrives.
-- https://github.com/openresty/lua-resty-upload
local ngx = ngx
local req = ngx.req
local match = string.match
local setmetatable, type = setmetatable, type

local M = { _VERSION = "0.11" }
local mt = { __index = M }

local CHUNK_SIZE = 4096
local MAX_LINE_SIZE = 512

local function boundary_of_request()
    local header = ngx.var.content_type
    if type(header) == "table" then
        header = header[1]
    end
    if not header then
        return nil
    end
    local quoted = match(header, ";%s*[bB][oO][uU][nN][dD][aA][rR][yY]=\"([^\"]+)\"")
    if quoted then
        return quoted
    end
    local plain = match(header, ";%s*[bB][oO][uU][nN][dD][aA][rR][yY]=([^\",;]+)")
    return plain and match(plain, "^(.-)%s*$")
end

-- What was read goes into the new request body as well.
local function keep(self, data)
    if self.preserve_body and data then
        req.append_body(data)
    end
end

-- The new request body is complete.
local function stop_keeping(self)
    if self.preserve_body then
        self.preserve_body = nil
        req.finish_body()
    end
end

-- At most `size` bytes before a pattern; nil at the pattern; nil and an error.
local function read_until(self, reader, size)
    local data, err = reader.read(size)
    if data then
        keep(self, data)
        return data
    end
    if err then
        stop_keeping(self)
        return nil, err
    end
    keep(self, reader.pattern)
    return nil
end

local function receive(self, size)
    local data, err, partial = self.sock:receive(size)
    keep(self, data or partial)
    if not data then
        stop_keeping(self)
    end
    return data, err
end

local function reader_until(sock, pattern)
    local read, err = sock:receiveuntil(pattern)
    if not read then
        return nil, err
    end
    return { read = read, pattern = pattern }
end

-- A line; nil and an error where there is none or it is too long.
local function read_line(self)
    local line, err = read_until(self, self.line, self.line_size)
    if err then
        return nil, err
    end
    if not line then
        return ""
    end
    local more
    more, err = read_until(self, self.line, 1)
    if more then
        stop_keeping(self)
        return nil, "line too long: " .. line .. more .. "..."
    end
    if err then
        return nil, err
    end
    return line
end

-- The states: what is read next.
local preamble, header, body, finished

-- What comes behind the last boundary means nothing.
local function skip_rest(self)
    while true do
        local data, err = receive(self, self.size)
        if not data then
            if err and err ~= "closed" then
                return nil, err
            end
            return true
        end
    end
end

function finished()
    return "eof", nil
end

function body(self)
    local data, err = read_until(self, self.boundary_reader, self.size)
    if err then
        return nil, nil, err
    end
    if data then
        return "body", data
    end
    local after
    after, err = receive(self, 2)
    if not after then
        return nil, nil, err
    end
    if after == "--" then
        local ok
        ok, err = skip_rest(self)
        if not ok then
            return nil, nil, err
        end
        self.state = finished
        return "part_end"
    end
    if after ~= "\r\n" then
        local line
        line, err = read_line(self)
        if not line then
            return nil, nil, err
        end
    end
    self.state = header
    return "part_end"
end

function header(self)
    local line, err = read_line(self)
    if not line then
        return nil, nil, err
    end
    if line == "" then
        self.state = body
        return body(self)
    end
    local name, value = match(line, "([^: \t]+)%s*:%s*(.+)")
    if not name then
        return "header", line
    end
    return "header", { name, value, line }
end

function preamble(self)
    repeat
        local data, err = read_until(self, self.boundary_reader, self.size)
        if err then
            return nil, nil, err
        end
    until not data
    local line, err = read_line(self)
    if not line then
        return nil, nil, err
    end
    local reader
    reader, err = reader_until(self.sock, "\r\n--" .. self.boundary)
    if not reader then
        return nil, nil, err
    end
    self.boundary_reader = reader
    self.state = header
    return header(self)
end

function M.new(_, chunk_size, max_line_size, preserve_body)
    local boundary = boundary_of_request()
    if not boundary or boundary == "" then
        return nil, "no boundary defined in Content-Type"
    end
    local sock, err = req.socket()
    if not sock then
        return nil, err
    end
    if preserve_body then
        req.init_body(chunk_size)
    end
    local to_boundary, to_line_end
    to_boundary, err = reader_until(sock, "--" .. boundary)
    if not to_boundary then
        return nil, err
    end
    to_line_end, err = reader_until(sock, "\r\n")
    if not to_line_end then
        return nil, err
    end
    return setmetatable({
        sock = sock,
        size = chunk_size or CHUNK_SIZE,
        line_size = max_line_size or MAX_LINE_SIZE,
        boundary_reader = to_boundary,
        line = to_line_end,
        boundary = boundary,
        state = preamble,
        preserve_body = preserve_body,
    }, mt)
end

function M.set_timeout(self, timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:settimeout(timeout)
end

-- What comes next: `header` with { name, value, line } or a line that is no field, `body` with a piece, `part_end`,
-- `eof`; or nil, nil and an error.
function M.read(self)
    if not self.sock then
        return nil, nil, "not initialized"
    end
    return self.state(self)
end

return M
