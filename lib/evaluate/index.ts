/** Perplexity, answers against references, and two models side by side. */
export {
  type Answer,
  type AnswerOptions,
  type AnswerScores,
  answerAll,
  type ExactMatchResult,
  exactMatch,
  type ScoredAnswer,
  scoreAnswer,
} from './answers';
export {
  type ComparedAnswer,
  type ComparedQuestion,
  type ComparedTotals,
  type CompareOptions,
  type Comparison,
  compareModels,
} from './compare';
export { type PerplexityOptions, type PerplexityResult, perplexity } from './perplexity';
