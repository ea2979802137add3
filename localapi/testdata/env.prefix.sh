STT_BACKSLASH='C:\dir\new'
STT_BACKSLASH_DOUBLE="a\\\\b"
STT_BACKSLASH_LAST=C:\\dir\\
STT_BACKSLASH_LAST_QUOTE=it\'s\ C:\\
STT_BOTH_QUOTES="say \"it's\"!"
STT_COMMENT='a # b'
STT_DB='{"host":"h","port-range":"1-2"}'
# "db.host" is left out: DB_HOST is the name of "db_host"
STT_DB_PORT_RANGE=1-2
STT_DB_HOST=taken
STT_DOLLAR='$HOME and ${HOME} and $(id)'
STT_DOLLAR_QUOTE="it's \$HOME"
STT_DOUBLE='say "hello" now'
STT_EMPTY=
STT_EQUALS=a=b==
STT_ESCAPE_TEXT='a\nb\tc'
STT_ESCAPE_TEXT_QUOTE="it's a\\nb"
STT_FLAG=true
STT_GLOB='* ? [a]'
STT_LD_PRELOAD=/evil.so
STT_LIST="[1,\"it's\"]"
# "nothing" is left out: its value is null; ask with ?nulls=empty
# "nul" is left out: its value has a NUL byte
STT_NUMBER=0.5
STT_PATH=/evil
STT_REGEX="[.!?…]+[\"')\\\\]]?\\\\s"
STT_SEMICOLON='a; touch pwned; b'
STT_SINGLE="it's"
STT_SPACES='  two  spaces  '
STT_SUBSTITUTION="\`id\` it's"
STT_TAB='a	b'
STT_TEXT_LINES="one
two

four"
STT_TEXT_LINES_QUOTE="it's
two lines"
STT_TILDE='~/x'
STT_UNICODE='Grüße 🙂'
STT_URL='https://user@host:8080/a,b?c=d%20e'
STT_WEIRD_KEY_=v
