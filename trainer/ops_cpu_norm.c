#include "trainer/ops.h"
