-- The certificate of the name that a client asks for, from the directory `certs`.
local lrucache = require "resty.lrucache"
local ssl = require "ngx.ssl"

local KEPT_SECONDS = 60

local cache = assert(lrucache.new(1000))
local directory = ngx.config.prefix() .. "certs/"

local M = {}

local function read(name)
    local file, err = io.open(directory .. name)
    if not file then
        return nil, err
    end
    local text = file:read("*a")
    file:close()
    return text
end

-- Names come from clients: nothing else than a host name may become the name of a file.
local function is_host(name)
    return #name < 254 and name:find("^[%w%-]+[%w%-%.]*$") and not name:find("..", 1, true)
end

local function load(name)
    local chain = read(name .. ".crt")
    if not chain then
        return nil
    end
    local key, err = read(name .. ".key")
    if not key then
        ngx.log(ngx.ERR, "a certificate without its key: ", err)
        return nil
    end
    return { chain = assert(ssl.parse_pem_cert(chain)), key = assert(ssl.parse_pem_priv_key(key)) }
end

-- ssl_certificate_by_lua: shows the certificate, or leaves it at the default one.
function M.show()
    local name = ssl.server_name()
    if not name or not is_host(name) then
        return
    end
    name = name:lower()
    local pair = cache:get(name)
    if pair == nil then
        pair = load(name) or false
        cache:set(name, pair, KEPT_SECONDS)
    end
    if pair then
        assert(ssl.clear_certs())
        assert(ssl.set_cert(pair.chain))
        assert(ssl.set_priv_key(pair.key))
    end
end

return M
