-- The part of the `ngx` API that is Lua over FFI entries. Loaded when a VM starts; each module defines its functions.
local base = require "resty.core.base"

require "resty.core.misc"
require "resty.core.base64"
require "resty.core.ndk"
require "resty.core.regex"
require "resty.core.shdict"
require "resty.core.socket"

return { version = base.version }
