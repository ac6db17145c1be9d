-- Rooms of people who talk over WebSocket. Each worker knows its own members; what is said goes to all workers through
-- a list in a shared dictionary.
local server = require "resty.websocket.server"
local semaphore = require "ngx.semaphore"
local cjson = require "cjson.safe"

local M = {}

local MAX_MESSAGE = 4096
-- Who is further behind than that is not reading any more.
local MAX_QUEUE = 200
local PING_AFTER = 30000

-- This worker's members, by room.
local rooms = {}

-- Hands a message to the members in this worker.
local function deliver(room, text)
    for member in pairs(rooms[room] or {}) do
        local queue = member.queue
        if #queue < MAX_QUEUE then
            queue[#queue + 1] = text
            member.news:post()
        else
            member.gone = true
            member.news:post()
        end
    end
end

-- Tells everybody in a room, whichever worker they are with.
local function say(room, message)
    message.time = ngx.time()
    local text = cjson.encode(message)
    local parcel = cjson.encode{ room = room, text = text }
    for id = 0, ngx.worker.count() - 1 do
        if id ~= ngx.worker.id() then
            ngx.shared.chat:rpush("worker " .. id, parcel)
        end
    end
    deliver(room, text)
end

-- Looks for what other workers have to tell.
function M.start()
    local inbox = "worker " .. ngx.worker.id()
    ngx.shared.chat:delete(inbox)
    ngx.timer.every(0.02, function()
        while true do
            local parcel = ngx.shared.chat:lpop(inbox)
            if not parcel then
                return
            end
            parcel = cjson.decode(parcel)
            deliver(parcel.room, parcel.text)
        end
    end)
end

-- Sends what is in a member's queue, as long as the member is there.
local function write(wb, member)
    while not member.gone do
        member.news:wait(60)
        local queue = member.queue
        member.queue = {}
        for _, text in ipairs(queue) do
            if not wb:send_text(text) then
                member.gone = true
            end
        end
    end
end

-- Reads what a member says; answers when it is over.
local function read(wb, room, member)
    local silent = false
    while not member.gone do
        local data, typ, err = wb:recv_frame()
        if not data then
            if silent or not err:find("timeout", 1, true) then
                return
            end
            silent = true
            wb:send_ping()
        else
            silent = false
            if typ == "close" then
                wb:send_close(1000)
                return
            elseif typ == "ping" then
                wb:send_pong(data)
            elseif typ == "text" and err ~= "again" and data:find("%S") then
                say(room, { from = member.name, text = data })
            end
        end
    end
    wb:send_close(1013, "too slow")
end

function M.serve(room, name)
    local wb, err = server:new{ timeout = PING_AFTER, max_payload_len = MAX_MESSAGE, deflate = true }
    if not wb then
        ngx.log(ngx.NOTICE, "no WebSocket: ", err)
        return ngx.exit(400)
    end
    local member = { name = ngx.unescape_uri(name):sub(1, 40), queue = {}, news = semaphore.new() }
    rooms[room] = rooms[room] or {}
    rooms[room][member] = true
    local writer = ngx.thread.spawn(write, wb, member)
    say(room, { event = "came", from = member.name })

    local ok, problem = pcall(read, wb, room, member)
    if not ok then
        ngx.log(ngx.ERR, problem)
    end
    rooms[room][member] = nil
    if not next(rooms[room]) then
        rooms[room] = nil
    end
    member.gone = true
    member.news:post()
    ngx.thread.wait(writer)
    say(room, { event = "left", from = member.name })
end

return M
