-- resty.openssl.ctx: OpenSSL's library contexts. There are none here: everything is the same to all.
local M = {}

function M.new()
    return true
end

function M.free()
    return true
end

return M
