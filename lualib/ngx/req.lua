-- ngx.req: a field is added to those of its name.
local base = require "resty.core.base"
local set_req_header = require("resty.core.request").set_req_header

local M = { version = base.version }

function M.add_header(name, value)
    set_req_header(name, value, false)
end

return M
