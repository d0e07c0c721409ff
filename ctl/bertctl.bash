# bash completion of bertctl: commands, options (asked from each command's --help), job ids and spec files.
_bertctl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command= i
  local commands="submit status list logs wait cancel pause resume checkpoint checkpoints events metrics results rm shutdown doctor version help"
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --socket) ((i++)) ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ $prev == --socket || $prev == --run-dir ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  elif [[ -z $command ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands --socket --version --help" -- "$cur")
  elif [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(bertctl help "$command" 2>/dev/null | grep -o -- '--[a-z-]*' | sort -u)" -- "$cur")
  else
    case $command in
      submit | doctor) mapfile -t COMPREPLY < <(compgen -f -X '!*.y?(a)ml' -- "$cur"; compgen -d -- "$cur") ;;
      help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
      list | shutdown | version) ;;
      *) mapfile -t COMPREPLY < <(compgen -W "$(bertctl list -n 500 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur") ;;
    esac
  fi
}
complete -F _bertctl bertctl
