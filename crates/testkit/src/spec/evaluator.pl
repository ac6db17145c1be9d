# Reads one specification file for the runner: the Perl header, the data blocks, their filters. Then serves calls.
#
#   perl evaluator.pl FILE        the environment holds TEST_NGINX_* with the places of this run
#
# Everything is written as one value in a compact form, see `emit`. Afterwards each line on standard input is a
# command: `call N LENGTH` followed by LENGTH bytes (a code reference met before, with these bytes as its argument), or
# `eval LENGTH` followed by code. The answer is again one value: a list of the result and the error.
use strict;
use warnings;

package Spec;

use IO::Handle;

our %setting = (repeat_each => 1);
our (@preprocessors, @blocks, @code, $html_dir, $server_root);

# What the file's own code prints must not get between the answers.
open our $answers, '>&', \*STDOUT or die "standard output: $!\n";
open STDOUT, '>&', \*STDERR or die "standard output: $!\n";
binmode $answers;

# The header of a file is written for Test::Nginx; these are the words it may use.
our %words = (
    plan => sub { shift if @_ > 1 && $_[0] eq 'tests'; $setting{plan} = $_[0] if defined $_[0] && $_[0] =~ /^\d+$/ },
    no_plan => sub { delete $setting{plan} },
    blocks => sub { wantarray ? @blocks : scalar @blocks },
    repeat_each => sub { @_ ? ($setting{repeat_each} = $_[0]) : $setting{repeat_each} },
    run_tests => sub { },
    html_dir => sub { $html_dir },
    server_root => sub { $server_root },
    server_port => sub { $ENV{TEST_NGINX_SERVER_PORT} },
    server_port_for_client => sub { $ENV{TEST_NGINX_SERVER_PORT} },
    add_block_preprocessor => sub { push @preprocessors, $_[0] },
    env_to_nginx => sub { push @{ $setting{env} }, @_ },
    bail_out => sub { die @_ },
    is_tcp_port_used => sub { 0 },
);
for my $word (qw(log_level workers worker_connections timeout server_name server_addr config_preamble)) {
    $words{$word} = sub { $setting{$word} = $_[0] if @_; $setting{$word} };
}
for my $word (qw(master_on master_off no_root_location check_accum_error_log)) {
    $words{$word} = sub { $setting{$word} = 1 };
}
for my $word (qw(no_long_string no_shuffle no_nginx_manager run_as_root no_diff)) {
    $words{$word} = sub { };
}

sub import {
    my ($class, @args) = @_;
    my $to = caller;
    no strict 'refs';
    no warnings 'redefine';
    *{"${to}::$_"} = $words{$_} for keys %words;
    $words{no_plan}->() if @args && $args[0] eq 'no_plan';
    $words{plan}->(@args) if @args && $args[0] eq 'tests';
    $setting{skip_all} = $args[1] if @args && $args[0] eq 'skip_all';
}

for my $module (qw(Test::Nginx::Socket Test::Nginx::Socket::Lua Test::Nginx::Socket::Lua::Stream Test::Nginx::Util
                   Test::Base Test::More)) {
    (my $path = "$module.pm") =~ s{::}{/}g;
    $INC{$path} = __FILE__;
    no strict 'refs';
    *{"${module}::import"} = \&import;
}

# A block as a preprocessor sees it: an accessor per section.
package Spec::Block;
our $AUTOLOAD;

sub AUTOLOAD {
    my $self = shift;
    (my $name = $AUTOLOAD) =~ s/.*:://;
    return if $name eq 'DESTROY';
    return $name eq 'name' ? $self->{name} : $self->{sections}{$name};
}

sub set_value {
    my ($self, $name, @value) = @_;
    return $self->{name} = $value[0] if $name eq 'name';
    $self->{sections}{$name} = $value[0];
}

package Spec;

# --- the data blocks

sub parse_blocks {
    my ($text, $line) = @_;
    my ($block, $section, @found);
    for my $row (split /^/m, $text) {
        if ($row =~ /^===[ \t]*(.*?)\s*$/) {
            $block = bless { name => $1, line => $line, sections => {}, filters => {}, order => [] }, 'Spec::Block';
            push @found, $block;
            undef $section;
        }
        elsif ($block && $row =~ /^--- +\(?(\w+)\)? *(.*?)\r?\n?$/) {
            ($section, my $rest) = ($1, $2);
            die "line $line: the section \"$section\" stands twice in \"$block->{name}\"\n"
                if exists $block->{sections}{$section};
            push @{ $block->{order} }, $section;
            my ($filters, $value) = $rest =~ /:(?:\s|\z)/ ? split(/\s*:(?:\s+|\z)/, $rest, 2) : ($rest, undef);
            $value =~ s/^\s+|\s+$//g if defined $value;
            $block->{filters}{$section} = [ split ' ', $filters ];
            $block->{sections}{$section} = defined $value ? $value : '';
            $block->{closed}{$section} = defined $value;
        }
        elsif (defined $section) {
            die "line $line: text under \"--- $section: ...\"\n" if $block->{closed}{$section} && $row =~ /\S/;
            $block->{sections}{$section} .= $row unless $block->{closed}{$section};
        }
        $line++;
    }
    return @found;
}

sub choose_blocks {
    for my $block (@_) {
        return $block if exists $block->{sections}{ONLY};
        next if exists $block->{sections}{SKIP};
        push @blocks, $block;
        last if exists $block->{sections}{LAST};
    }
    return @blocks;
}

# --- filters

our %filter = (
    norm => sub { my $t = shift; $t =~ s/\r\n?/\n/g; $t },
    trim => sub { map { (my $t = $_) =~ s/\A(?:[ \t]*\n)+//; $t =~ s/(?<=\n)\s*\z//; $t } @_ },
    chomp => sub { map { my $t = $_; chomp $t; $t } @_ },
    unchomp => sub { map { "$_\n" } @_ },
    chop => sub { map { my $t = $_; chop $t; $t } @_ },
    eval => sub { Spec::Sandbox::run($_[0]) },
    quote => sub { map { quotemeta } @_ },
    lines => sub { $_[0] =~ /^(.*\n?)/gm },
    array => sub { [@_] },
    escape => sub { (my $t = shift) =~ s/(\\.)/Spec::Sandbox::run("qq{$1}")/ge; $t },
    regexp => sub { my $t = shift; chomp $t; qr/$t/ },
    lc => sub { map { lc } @_ },
    uc => sub { map { uc } @_ },
);

sub run_filters {
    my ($block) = @_;
    for my $name (@{ $block->{order} }) {
        my @filters = qw(norm trim);
        for my $filter (@{ $block->{filters}{$name} }) {
            if ($filter =~ /^-(.*)/) { @filters = grep { $_ ne $1 } @filters }
            else { push @filters, $filter }
        }
        my @value = $block->{sections}{$name};
        for my $filter (@filters) {
            $filter =~ s/=.*//;
            my $code = main->can($filter) || $filter{$filter}
                or die "line $block->{line}: unknown filter \"$filter\" of the section \"$name\"\n";
            @value = $code->(@value);
        }
        $block->{sections}{$name} = $value[0];
    }
}

# --- the answer

# u = undefined, s = string, r = regular expression, l = list, m = map, c = code to be called by number.
sub emit {
    my ($value) = @_;
    my $kind = ref $value;
    return 'u' if !defined $value;
    return 'l' . @$value . ':' . join('', map { emit($_) } @$value) if $kind eq 'ARRAY';
    return 'm' . keys(%$value) . ':' . join('', map { emit($_) . emit($value->{$_}) } sort keys %$value)
        if $kind eq 'HASH' || $kind eq 'Spec::Block';
    if ($kind eq 'CODE') {
        push @code, $value;
        return 'c' . $#code . ':';
    }
    my $text = $kind eq 'SCALAR' ? $$value : "$value";
    utf8::encode($text) if utf8::is_utf8($text) && !utf8::downgrade($text, 1);
    return ($kind eq 'Regexp' ? 'r' : 's') . length($text) . ':' . $text;
}

sub answer {
    my $text = emit($_[0]);
    print {$answers} length($text), "\n", $text;
    $answers->flush;
}

sub serve {
    while (defined(my $line = <STDIN>)) {
        my ($command, @args) = split ' ', $line;
        my $text = '';
        read STDIN, $text, $args[-1];
        my $result = $command eq 'call' ? eval { $code[ $args[0] ]->($text) } : Spec::Sandbox::protected($text);
        answer([ $result, $@ ]);
    }
}

sub load {
    my ($path) = @_;
    open my $in, '<:raw', $path or die "$path: $!\n";
    my $text = do { local $/; <$in> };
    my ($header, $data) = split /^__(?:DATA|END)__\r?\n/m, $text, 2;
    die "$path has no __DATA__\n" if !defined $data;
    choose_blocks(parse_blocks($data, 2 + ($header =~ tr/\n//)));
    Spec::Sandbox::header($path, $header);
    for my $block (@blocks) {
        run_filters($block);
        $_->($block) for @preprocessors;
    }
    my @answer = map { +{ name => $_->{name}, line => $_->{line}, sections => $_->{sections} } } @blocks;
    my %env = map { $_ => $ENV{$_} } grep { /^TEST_NGINX_/ } keys %ENV;
    return { setting => \%setting, blocks => \@answer, env => \%env };
}

package Spec::Sandbox;

sub run {
    my @value = eval $_[0];
    return $@ if $@;
    return @value;
}

sub protected {
    my $value = eval "package main; $_[0]";
    return $value;
}

sub header {
    my ($path, $text) = @_;
    eval "package main; no strict; use warnings;\n#line 1 \"$path\"\n$text\n;1" or die $@;
}

package main;

binmode STDIN;
$Spec::server_root = $ENV{TEST_NGINX_SERVROOT};
$Spec::html_dir = $ENV{TEST_NGINX_HTML_DIR};
# Modules beside the file. Under Test::Nginx: prove -I DIRECTORY.
unshift @INC, $ARGV[0] =~ m{^(.*)/} ? $1 : '.';
my $loaded = eval { Spec::load($ARGV[0]) };
Spec::answer($loaded ? $loaded : { error => "$@" });
Spec::serve();
