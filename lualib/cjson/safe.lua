-- cjson.safe, in Rust: errors are answered instead of raised.
return require "moonrest.cjson.safe"
