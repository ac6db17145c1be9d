# Servers in Perl for specifications: `mock(NAME => sub { my $client = shift; … })` listens on $TEST_NGINX_NAME_PORT.
package MockServer;
use strict;
use warnings;
use IO::Socket::INET;
use POSIX ();

# A process of its own gives each connection to another one that runs the code. It ends with the one that began it.
sub mock {
    my ($name, $code) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16, ReuseAddr => 1) or die "listen: $!";
    $ENV{"TEST_NGINX_${name}_PORT"} = $listener->sockport;
    my $parent = $$;
    return if fork;
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    local @SIG{qw(PIPE CHLD)} = ('IGNORE') x 2;
    while (getppid == $parent) {
        my $set = '';
        vec($set, fileno($listener), 1) = 1;
        next unless select($set, undef, undef, 0.2);
        my $client = $listener->accept or next;
        unless (fork) {
            $client->autoflush(1);
            eval { $code->($client) };
            close $client;
            POSIX::_exit(0);
        }
        close $client;
    }
    POSIX::_exit(0);
}

sub import {
    no strict 'refs';
    *{ caller() . '::mock' } = \&mock;
}

1;
