-- `resty.mysql.auth_ed25519`: what MariaDB's plugin "client_ed25519" wants to see.
-- https://github.com/openresty/lua-resty-mysql
local proof = require "moonrest.password"

local type = type

local M = { _VERSION = "0.02" }

-- `sign(password, scramble) -> signature of 64 bytes`.
function M.sign(password, scramble)
    if type(password) ~= "string" then
        return nil, "password must be a string"
    elseif type(scramble) ~= "string" or #scramble ~= 32 then
        return nil, "scramble must be a 32-byte string"
    end
    return proof.ed25519_mariadb(password, scramble)
end

return M
