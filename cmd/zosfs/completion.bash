# What follows needs these of the package bash-completion. Where that is not there, these do:
# words are what blanks separate, and stay whole at colons and equals signs.
if ! declare -F _get_comp_words_by_ref >/dev/null; then
_get_comp_words_by_ref()
{
    local line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword - 1]}
}
__ltrim_colon_completions()
{
    local i begun=${1%"${1##*:}"}
    if [[ $1 == *:* && $COMP_WORDBREAKS == *:* ]]; then
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]=${COMPREPLY[i]#"$begun"}
        done
    fi
}
_filedir()
{
    local IFS=$'\n'
    COMPREPLY=($(compgen "${1:--f}" -- "$cur"))
    compopt -o filenames
}
fi

