BACKSLASH='C:\dir\new'
BACKSLASH_DOUBLE="a\\\\b"
BACKSLASH_LAST=C:\\dir\\
BACKSLASH_LAST_QUOTE=it\'s\ C:\\
BOTH_QUOTES="say \"it's\"!"
COMMENT='a # b'
DB='{"host":"h","port-range":"1-2"}'
# "db.host" is left out: DB_HOST is the name of "db_host"
DB_PORT_RANGE=1-2
DB_HOST=taken
DOLLAR='$HOME and ${HOME} and $(id)'
DOLLAR_QUOTE="it's \$HOME"
DOUBLE='say "hello" now'
EMPTY=
EQUALS=a=b==
ESCAPE_TEXT='a\nb\tc'
ESCAPE_TEXT_QUOTE="it's a\\nb"
FLAG=true
GLOB='* ? [a]'
# "ld_preload" is left out: LD_PRELOAD would change how the reader runs, or is a shell's own; ask with ?prefix=
LIST="[1,\"it's\"]"
# "nothing" is left out: its value is null; ask with ?nulls=empty
# "nul" is left out: its value has a NUL byte
NUMBER=0.5
# "path" is left out: PATH would change how the reader runs, or is a shell's own; ask with ?prefix=
REGEX="[.!?…]+[\"')\\\\]]?\\\\s"
SEMICOLON='a; touch pwned; b'
SINGLE="it's"
SPACES='  two  spaces  '
SUBSTITUTION="\`id\` it's"
TAB='a	b'
TEXT_LINES="one
two

four"
TEXT_LINES_QUOTE="it's
two lines"
TILDE='~/x'
UNICODE='Grüße 🙂'
URL='https://user@host:8080/a,b?c=d%20e'
WEIRD_KEY_=v
