package yaml

import "github.com/goccy/go-yaml/token"

// Limits of nesting. The parser's time and memory grow with the square of the
// depth: 128 Ki brackets took it minutes and all memory. The specification
// needs five levels.
const (
	maxFlowDepth   = 16
	maxBlockColumn = 64 // of a key or hyphen: an upper bound of the depth outside brackets
)

// checkTokens refuses what no specification needs and a stranger's file could
// do harm with, before the parser sees it.
func checkTokens(tokens token.Tokens) error {
	flow := 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
			return single(t.Position.Line, "anchors, aliases, tags, merged and explicit keys and directives are not used in a specification", "write the value itself")
		}
		if flow > maxFlowDepth || flow == 0 && blockColumn(t) > maxBlockColumn {
			return single(t.Position.Line, "nested too deep", "a specification has five levels")
		}
	}
	return nil
}

// blockColumn returns the column at which an entry outside brackets begins.
func blockColumn(t *token.Token) int {
	switch {
	case t.Type == token.SequenceEntryType:
		return t.Position.Column
	case t.Type == token.MappingValueType && t.Prev != nil:
		return t.Prev.Position.Column
	default:
		return 0
	}
}
