# disable_symlinks: which links are followed.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== files without links are served
--- config
location / { disable_symlinks on; }
location /from/ { disable_symlinks on from=$document_root; }
location /owner/ { disable_symlinks if_not_owner from=$document_root/owner; }
--- user_files
>>> from/a.txt
from
>>> owner/a.txt
owner
--- request eval
["GET /from/a.txt", "GET /owner/a.txt"]
--- response_body eval
["from\n", "owner\n"]

=== a missing file is named with the call that did not find it
--- config
location / { disable_symlinks on from=$document_root; }
--- request
GET /none/a.txt
--- error_code: 404
--- error_log
openat() "
failed (2: No such file or directory)

=== the parameter from= needs a mode
--- config
location / { disable_symlinks from=/x; }
--- must_die
--- error_log
[emerg]

=== off and from= do not go together
--- config
location / { disable_symlinks off from=/x; }
--- must_die
--- error_log
"from=" cannot be used with "off" parameter
