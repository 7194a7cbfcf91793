#!/usr/bin/perl
# fairway cni plugin: hands what the runtime says to Fairway's agent, and its answer back. Written by `fairway cni install`.
#
# It is Perl because a runtime starts it for every container: perl-base is essential on Debian, and without modules it
# starts in a quarter of the time that Python needs. What it says to the agent: net/cni/wire.py in Fairway.
my $SOCKET  = '@SOCKET@';
my $PENDING = '@PENDING@';
my $SECONDS = 60;    # for the agent to answer in

my $command = $ENV{CNI_COMMAND} // '';
my $stdin   = '';
while (sysread(STDIN, my $piece, 65536)) { $stdin .= $piece }
my ($version) = $stdin =~ /"cniVersion"\s*:\s*"([0-9.]+)"/;
$version //= '1.0.0';

if ($command eq 'VERSION') {
    print qq({"cniVersion":"$version","supportedVersions":[@VERSIONS@]}\n);
    exit 0;
}
my $request = join('', map { "$_=$ENV{$_}\0" } grep { /^CNI_/ || $_ eq 'TRACEPARENT' } keys %ENV) . "\0" . $stdin;
my $answer  = ask($request);
if ($answer =~ /^(\d+) (\d+)\n/ && length($answer) == length($&) + $2) {
    print substr($answer, length($&));
    exit $1;
}
if ($command eq 'DEL') {
    for (qw(CNI_CONTAINERID CNI_IFNAME)) { fail(4, "$_ is not set", '') unless length($ENV{$_} // '') }
    my $trouble = journal($request);
    fail(11, "the agent is down, and the deletion could not be noted for it", $trouble) if $trouble;
    exit 0;
}
fail($command eq 'STATUS' ? 50 : 11, "Fairway's agent does not answer at $SOCKET", 'start it: fairway agent');

# The agent's answer to a request; short or empty if the agent is down, or ends before it has answered.
sub ask {
    my ($request) = @_;
    local $SIG{PIPE} = 'IGNORE';
    socket(my $agent, 1, 1, 0) or return '';    # AF_UNIX, SOCK_STREAM: the same on every Linux
    connect($agent, pack('Sa*', 1, $SOCKET)) or return '';
    for (my $sent = 0 ; $sent < length($request) ;) {
        $sent += syswrite($agent, $request, length($request) - $sent, $sent) // return '';
    }
    shutdown($agent, 1);
    my $answer = '';
    my $end    = time + $SECONDS;
    while (time < $end) {
        vec(my $readable = '', fileno($agent), 1) = 1;
        select($readable, undef, undef, $end - time) or last;
        sysread($agent, my $piece, 65536) or last;
        $answer .= $piece;
    }
    return $answer;
}

# Note a deletion durably for the agent that comes; returns what went wrong, or nothing.
sub journal {
    my ($request) = @_;
    require IO::Handle;    # for fsync; only here, as it takes milliseconds
    mkdir $PENDING, 0700;
    my $name = "$PENDING/" . time . ".$$";
    open(my $file, '>', "$name.new") or return "$PENDING: $!";
    my $written = syswrite($file, $request) // 0;
    if ($written != length($request) || !$file->sync || !close($file) || !rename("$name.new", $name)) {
        my $trouble = "$name: $!";
        unlink "$name.new";
        return $trouble;
    }
    open(my $folder, '<', $PENDING) or return "$PENDING: $!";
    return $folder->sync ? '' : "$PENDING: $!";
}

sub fail {
    my ($code, @told) = @_;
    s/(["\\])/\\$1/g for @told;
    print qq({"cniVersion":"$version","code":$code,"msg":"$told[0]","details":"$told[1]"}\n);
    exit 1;
}
