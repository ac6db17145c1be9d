-- The wire protocol of Redis over the methods of a socket: what `moonrest.redis.native` does for our own sockets, for those
-- that a program has put in their place.
local new_tab = require "table.new"

local byte, sub, concat = string.byte, string.sub, table.concat
local select, tonumber, tostring, type = select, tonumber, tostring, type
local null = ngx.null

local M = {}

local MAX_DEPTH = 128

function M.encode(...)
    local count = select("#", ...)
    local args = { ... }
    while count > 0 and args[count] == nil do
        count = count - 1
    end
    local out = new_tab(count * 5 + 3, 0)
    out[1], out[2], out[3] = "*", count, "\r\n"
    local n = 3
    for i = 1, count do
        local arg = args[i]
        if type(arg) ~= "string" then
            arg = tostring(arg)
        end
        out[n + 1], out[n + 2], out[n + 3], out[n + 4], out[n + 5] = "$", #arg, "\r\n", arg, "\r\n"
        n = n + 5
    end
    return concat(out)
end

local function fail(sock, err)
    sock:close()
    return nil, err
end

local function read(sock, patient, depth)
    local line, err = sock:receive()
    if not line then
        if err == "timeout" and patient and depth == 0 then
            return nil, err
        end
        return fail(sock, err)
    end
    local prefix = byte(line)
    if prefix == 43 then -- +
        return sub(line, 2)
    elseif prefix == 45 then -- -
        return false, sub(line, 2)
    elseif prefix == 58 then -- :
        return tonumber(sub(line, 2))
    elseif prefix ~= 36 and prefix ~= 42 then
        return fail(sock, "unknown prefix: \"" .. tostring(prefix) .. "\"")
    end
    local size = tonumber(sub(line, 2))
    if not size then
        return fail(sock, "bad length: \"" .. sub(line, 2) .. "\"")
    elseif size < 0 then
        return null
    elseif prefix == 36 then -- $
        local data, failure = sock:receive(size)
        if data then
            local ending
            ending, failure = sock:receive(2)
            if ending then
                return data
            end
        end
        return fail(sock, failure)
    elseif depth >= MAX_DEPTH then
        return fail(sock, "arrays nested too deeply")
    end
    local list = {}
    for i = 1, size do
        local value, failure = read(sock, false, depth + 1)
        if value == nil and failure then
            return nil, failure
        end
        list[i] = value == false and { false, failure } or value
    end
    return list
end

function M.read(sock, patient)
    return read(sock, patient, 0)
end

function M.send(sock, ...)
    return sock:send(M.encode(...))
end

function M.call(sock, ...)
    local sent, err = sock:send(M.encode(...))
    if not sent then
        return fail(sock, err)
    end
    return read(sock, false, 0)
end

function M.pipeline(sock, requests)
    local sent, err = sock:send(requests)
    if not sent then
        return fail(sock, err)
    end
    local list = new_tab(#requests, 0)
    for i = 1, #requests do
        local value, failure = read(sock, false, 0)
        if value == nil then
            return nil, failure
        end
        list[i] = value == false and { false, failure } or value
    end
    return list
end

return M
