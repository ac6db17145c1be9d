-- resty.random: random bytes. All are strong: `strong` makes no difference.
local random = require("moonrest.crypto").random

local M = { _VERSION = "0.19" }

function M.bytes(len)
    return (random(len))
end

return M
