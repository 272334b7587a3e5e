package engine

import "time"

// SetAnswerTime changes how long answers may take, and gives what changes it back.
func SetAnswerTime(d time.Duration) (back func()) {
	was := answerTime
	answerTime = d
	return func() { answerTime = was }
}
