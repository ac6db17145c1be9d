-- resty.openssl.objects: names and numbers of ASN.1.
local crypto = require "moonrest.crypto"

local type = type

local M = {}

function M.nid2table(nid)
    local sn, ln, id = crypto.names(nid)
    if not sn then
        return nil, "objects.nid2table: invalid NID " .. nid
    end
    return { id = id, nid = nid, sn = sn, ln = ln }
end

function M.txt2nid(text)
    if type(text) ~= "string" then
        return nil, "objects.txt2nid: expect a string at #1"
    end
    local nid = crypto.nid(text)
    if not nid then
        return nil, "objects.txt2nid: invalid NID text " .. text
    end
    return nid
end

function M.txtnid2nid(text)
    if type(text) == "string" then
        local nid = crypto.nid(text)
        if not nid then
            return nil, "objects.txtnid2nid: invalid NID text " .. text
        end
        return nid
    elseif type(text) == "number" then
        return text
    end
    return nil, "objects.txtnid2nid: expect string or number at #1"
end

-- The digest of a signature's algorithm.
function M.find_sigid_algs(nid)
    local digest = crypto.signature_digest(nid)
    if not digest then
        return 0, "objects.find_sigid_algs: invalid sigid " .. nid
    end
    return digest
end

return M
