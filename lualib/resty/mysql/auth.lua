-- How a password is proven to MySQL and MariaDB, by the name of the server's plugin.
-- https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods.html
local bit = require "bit"
local proof = require "moonrest.password"

local bxor = bit.bxor
local byte, char, sub = string.byte, string.char, string.sub
local concat = table.concat
local sha1, sha256 = ngx.sha1_bin, proof.sha256

local M = {}

-- `text` combined with `mask`, over and over.
local function xor(text, mask)
    local out, len = {}, #mask
    for i = 1, #text do
        out[i] = char(bxor(byte(text, i), byte(mask, (i - 1) % len + 1)))
    end
    return concat(out)
end

-- Whether nobody listens between us and the server.
local function is_private(db)
    return db.use_ssl or db.is_unix
end

local function encrypted(db, scramble, key)
    local data, err = proof.rsa_oaep_sha1(key, xor(db.password .. "\0", sub(scramble, 1, 20)))
    if not data then
        return nil, "encode password packet: " .. err
    end
    return data
end

local PLUGINS = {}

function PLUGINS.mysql_native_password(db, scramble)
    if db.password == "" then
        return ""
    end
    local once = sha1(db.password)
    return xor(sha1(sub(scramble, 1, 20) .. sha1(once)), once)
end

function PLUGINS.caching_sha2_password(db, scramble)
    if db.password == "" then
        return ""
    end
    local once = sha256(db.password)
    return xor(once, sha256(sha256(once) .. sub(scramble, 1, 20)))
end

function PLUGINS.sha256_password(db)
    if is_private(db) or db.password == "" then
        return db.password .. "\0"
    end
    -- Asks for the server's key.
    return "\1"
end

function PLUGINS.mysql_clear_password(db)
    if not db.use_ssl then
        return nil, "mysql_clear_password is only used over TLS"
    end
    return db.password .. "\0"
end

function PLUGINS.client_ed25519(db, scramble)
    return require "resty.mysql.auth_ed25519".sign(db.password, sub(scramble, 1, 32))
end

-- The first answer to a plugin's question.
function M.answer(db, plugin, scramble)
    local run = PLUGINS[plugin]
    if not run then
        return nil, "unknown plugin: " .. plugin
    end
    return run(db, scramble)
end

-- The answer to what else a plugin asks; nothing when there is only to wait.
function M.continue(db, plugin, scramble, data)
    if plugin == "caching_sha2_password" then
        if data == "\3" or data == "" then
            return nil -- known to the server's cache: its approval follows
        elseif data == "\4" then
            if is_private(db) then
                return db.password .. "\0"
            end
            return "\2" -- asks for the server's key
        elseif sub(data, 1, 5) == "-----" and not is_private(db) then
            return encrypted(db, scramble, data)
        end
    elseif plugin == "sha256_password" and sub(data, 1, 5) == "-----" and not is_private(db) then
        return encrypted(db, scramble, data)
    end
    return nil, "malformed packet"
end

return M
