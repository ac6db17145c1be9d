-- The part of the `ngx` API that is Lua over FFI entries. Loaded when a VM starts; each module defines its functions.
local base = require "resty.core.base"

require "resty.core.var"
require "resty.core.worker"
require "resty.core.time"
require "resty.core.hash"
require "resty.core.uri"
require "resty.core.base64"
require "resty.core.request"
require "resty.core.response"
require "resty.core.phase"
require "resty.core.misc"
require "resty.core.ctx"
require "resty.core.ndk"
require "resty.core.regex"
require "resty.core.shdict"
require "resty.core.socket"

return { version = base.version }
