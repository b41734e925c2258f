/**
 * The scripts for bash and zsh. They know nothing of our verbs: `kage __complete` answers with one
 * candidate per line, a tab and what it is; the line `:files` asks for file names as well.
 */

const COMMANDS = 'kage sdxproxy sdxinfo sdxvolume sdxdisk sdxclass';

const BASH = `# completion of kage for bash: source <(kage completion bash)
_kage() {
  local cur=\${COMP_WORDS[COMP_CWORD]} line
  [ "$cur" = "=" ] && cur=
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :files)
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
        ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <("$1" __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _kage ${COMMANDS}
`;

const ZSH = `#compdef ${COMMANDS}
# completion of kage for zsh: source <(kage completion zsh), after compinit
_kage() {
  local -a candidates
  local line files=
  for line in \${(f)"$("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
    case $line in
      :files) files=1 ;;
      *) candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  (( $#candidates )) && _describe kage candidates
  [ -n "$files" ] && _files
}
if [ "\${funcstack[1]}" = _kage ]; then _kage "$@"; else compdef _kage ${COMMANDS}; fi
`;

export const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH };
