-- resty.balancer.utils: what resty.chash, resty.roundrobin and resty.swrr share.
local new_tab = require "table.new"
local nkeys = require "table.nkeys"

local pairs, tonumber = pairs, tonumber

local M = { name = "balancer-utils", version = "0.05", new_tab = new_tab, nkeys = nkeys }

-- A copy of nodes and their weights.
function M.copy(nodes)
    local copy = new_tab(0, nkeys(nodes))
    for id, weight in pairs(nodes) do
        copy[id] = tonumber(weight)
    end
    return copy
end

return M
